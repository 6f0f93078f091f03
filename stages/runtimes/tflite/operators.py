"""The operators of a TFLite file, in all its subgraphs, and those among them that tell of lost weights."""

from collections import Counter

from ...core.errors import PipelineError

# What reads and fills variables. A whole file has weights as constants, and needs none of these.
OF_VARIABLES = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")


def count(content: bytes) -> Counter[str]:
    """How often each operator is in a file with that content, by its name in the format's schema."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    codes = [model.OperatorCodes(place) for place in range(model.OperatorCodesLength())]
    # Codes up to 127 stand in the older field, and larger ones in the newer.
    kinds = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    graphs = [model.Subgraphs(place) for place in range(model.SubgraphsLength())]
    return Counter(
        kinds[graph.Operators(place).OpcodeIndex()] for graph in graphs for place in range(graph.OperatorsLength())
    )


def refuse_variables(content: bytes) -> None:
    """PipelineError for a file that would read its weights from variables, which nothing fills."""
    found = count(content)
    if lost := [name for name in OF_VARIABLES if found[name]]:
        told = ", ".join(f"{found[name]} {name}" for name in lost)
        raise PipelineError(
            f"TFLite's converter wrote a file of {len(content):,} bytes with variables in place of weights ({told}): "
            "leave out the variants of tflite, and report it",
            code="tflite-variables",
            operators=lost,
            size_bytes=len(content),
        )
