"""The block `tensorrt` of params.yaml."""

from dataclasses import dataclass
from typing import Literal

from ..shared.checks import positive


@dataclass(frozen=True)
class Options:
    """Engines without TensorFlow."""

    # TensorFloat-32 for what is in FP32, fixed when an engine is built.
    tf32: bool = True
    # How the calibration set sets INT8 ranges.
    calibrator: Literal["minmax", "percentile", "entropy"] = "minmax"
    # An engine for each batch size, one with a profile for each, or the faster of both.
    engines: Literal["auto", "each", "profile"] = "auto"
    cuda_graph: bool = True
    # Copy to and from the GPU by way of pinned memory.
    pinned: bool = True
    # MiB of scratch memory while kernels are chosen; None: no limit.
    max_workspace_mib: int | None = None
    # Keep what was learned of kernels in the user's cache folder.
    timing_cache: bool = True

    def __post_init__(self) -> None:
        """OptionError for a size below 1."""
        positive(self, "max_workspace_mib")
