"""The block `onnxruntime` of params.yaml."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Options:
    """How ONNX Runtime's INT8 comes about."""

    # How the calibration set sets INT8 ranges.
    calibrator: Literal["minmax", "percentile", "entropy"] = "minmax"
    # INT8 weights of 7 bits: an x86 CPU without VNNI overflows with 8.
    reduce_range: bool = True
