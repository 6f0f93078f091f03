"""The names of the variants: `RUNTIME-PRECISION`."""

from typing import NamedTuple

PRECISIONS = {
    "savedmodel": ("fp32",),
    "tftrt": ("fp32", "fp16", "int8"),
    "tflite": ("fp32", "fp16", "dynamic", "int8"),
    "onnxruntime": ("fp32", "int8"),
    "tensorrt": ("fp32", "fp16", "int8"),
}
BASELINE = "savedmodel-fp32"
VALID = tuple(f"{runtime}-{precision}" for runtime, names in PRECISIONS.items() for precision in names)


class Variant(NamedTuple):
    """One way to run the model."""

    runtime: str
    precision: str


def parse(name: str) -> Variant:
    """Split `tflite-int8`; ValueError lists the valid names."""
    if name not in VALID:
        raise ValueError(f"unknown variant {name!r}; valid variants are {', '.join(VALID)}")
    return Variant(*name.split("-"))
