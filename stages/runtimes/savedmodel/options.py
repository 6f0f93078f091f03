"""The block `savedmodel` of params.yaml."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The baseline runtime."""

    # TensorFloat-32 for FP32 matrix work on GPUs that have it.
    tf32: bool = True
