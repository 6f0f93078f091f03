"""Takes a Keras network apart, call by call, and puts together the same one without models inside it."""

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras import Model as Network
    from keras import Operation
    from tensorflow import Tensor

# A call of a layer or of an operation of Keras: its `operation`, `input_tensors` and `outputs`.
Call = Any
# What a call gives for these arguments and options.
Answer = Callable[[Call, tuple[Any, ...], Mapping[str, Any]], Any]


def flatten(tf: ModuleType, model: "Network") -> "Network":
    """The same network without models inside it, and with softmax in a layer by itself; `model` is used up.

    Layers are told apart by what they follow, which a model around them hides. And rounding would change probabilities
    more than the loss's logarithm bears.
    """
    given = inputs(tf, model)
    _name_apart(tf, model)
    parted = [_part_softmax(tf, tensor) for tensor in model.outputs]
    outputs = [
        tf.keras.layers.Softmax()(tensor) if softmax else tensor
        for tensor, softmax in zip(_inline(tf, model, given), parted, strict=True)
    ]
    return like(tf, model, given, outputs)


def inputs(tf: ModuleType, model: "Network") -> list["Tensor"]:
    """New inputs like those of the model, under their names."""
    return [tf.keras.layers.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name) for tensor in model.inputs]


def like(tf: ModuleType, model: "Network", given: list["Tensor"], outputs: list["Tensor"]) -> "Network":
    """The network from these inputs to these outputs, which are called as the model's are."""
    made = tf.keras.Model(given if len(given) > 1 else given[0], outputs if len(outputs) > 1 else outputs[0])
    made.output_names = [*_graph(tf, model).output_names]
    return made


def of(tf: ModuleType, model: "Network") -> list[Call]:
    """All calls in the order of their computation, which has no public name in Keras."""
    by_depth = _graph(tf, model)._nodes_by_depth
    return [call for depth in sorted(by_depth, reverse=True) for call in by_depth[depth] if not call.is_input]


def replay(tf: ModuleType, model: "Network", given: Sequence["Tensor"], answer: Answer) -> list["Tensor"]:
    """What the model makes of `given`, where `answer` says what each of its calls gives."""
    known = {id(old): new for old, new in zip(model.inputs, given, strict=True)}
    for call in of(tf, model):
        results = tf.nest.flatten(answer(call, *call.arguments.fill_in(known)))
        known.update((id(old), new) for old, new in zip(call.outputs, results, strict=True))
    return [known[id(tensor)] for tensor in model.outputs]


def _graph(tf: ModuleType, model: "Network") -> "Network":
    """What holds the calls: a Sequential model has another inside for it."""
    return model._functional if isinstance(model, tf.keras.Sequential) else model


def _is_model(tf: ModuleType, operation: "Operation") -> bool:
    """Whether it is made of calls that can be seen; one that computes in code of its own is as a layer."""
    return isinstance(operation, (tf.keras.Function, tf.keras.Sequential))


def _name_apart(tf: ModuleType, model: "Network") -> None:
    """Name what is inside of models inside after these too: two of them may have layers of one name."""
    inside = {id(call.operation): call.operation for call in of(tf, model) if _is_model(tf, call.operation)}
    for inner in inside.values():
        for operation in {call.operation for call in of(tf, inner)}:
            operation.name = f"{inner.name}_{operation.name}"
        _name_apart(tf, inner)


def _part_softmax(tf: ModuleType, tensor: "Tensor") -> bool:
    """Take softmax from the layer that an output comes from; whether it had one."""
    layer, _, place = tensor._keras_history
    while _is_model(tf, layer):
        layer, _, place = layer.outputs[place]._keras_history
    if getattr(layer, "activation", None) is not tf.keras.activations.softmax:
        return False
    layer.activation = tf.keras.activations.linear
    return True


def _inline(tf: ModuleType, model: "Network", given: Sequence["Tensor"]) -> list["Tensor"]:
    def answer(call: Call, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        operation = call.operation
        if _is_model(tf, operation):
            return _inline(tf, operation, tf.nest.flatten(arguments))
        return operation(*arguments, **options)

    return replay(tf, model, given, answer)
