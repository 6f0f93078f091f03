"""Which runtimes there are, and the variants that they make."""

from stages.contracts.variant import Variant

PRECISIONS = {
    "savedmodel": ("fp32",),
    "tftrt": ("fp32", "fp16", "int8"),
    "tflite": ("fp32", "fp16", "dynamic", "int8", "int8-qat"),
    "onnxruntime": ("fp32", "int8", "int8-qat"),
    "tensorrt": ("fp32", "fp16", "int8", "int8-qat"),
}
VALID = tuple(f"{runtime}-{precision}" for runtime, names in PRECISIONS.items() for precision in names)


def known(name: str) -> Variant:
    """The variant of that name; ValueError lists the valid ones."""
    if name not in VALID:
        raise ValueError(f"unknown variant {name!r}; valid variants are {', '.join(VALID)}")
    return Variant.parse(name)
