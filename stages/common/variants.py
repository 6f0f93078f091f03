"""The names of the variants: `RUNTIME-PRECISION`, and `RUNTIME-int8-qat` with weights and ranges trained for it."""

from typing import NamedTuple

PRECISIONS = {
    "savedmodel": ("fp32",),
    "tftrt": ("fp32", "fp16", "int8"),
    "tflite": ("fp32", "fp16", "dynamic", "int8", "int8-qat"),
    "onnxruntime": ("fp32", "int8", "int8-qat"),
    "tensorrt": ("fp32", "fp16", "int8", "int8-qat"),
}
QAT = "-qat"
BASELINE = "savedmodel-fp32"
VALID = tuple(f"{runtime}-{precision}" for runtime, names in PRECISIONS.items() for precision in names)


class Variant(NamedTuple):
    """One way to run the model; `qat` after quantisation-aware training."""

    runtime: str
    precision: str
    qat: bool


def parse(name: str) -> Variant:
    """Split `tflite-int8`; ValueError lists the valid names."""
    if name not in VALID:
        raise ValueError(f"unknown variant {name!r}; valid variants are {', '.join(VALID)}")
    runtime, precision = post_training(name).split("-")
    return Variant(runtime, precision, name.endswith(QAT))


def post_training(name: str) -> str:
    """The same INT8 without training for it: `tflite-int8` of `tflite-int8-qat`."""
    return name.removesuffix(QAT)
