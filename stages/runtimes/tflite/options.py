"""The block `tflite` of params.yaml."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """LiteRT on the CPU."""

    # The XNNPACK kernels; False: LiteRT's built-in kernels.
    xnnpack: bool = True
