"""The block `tftrt` of params.yaml."""

from dataclasses import dataclass
from typing import Literal

from ..shared.checks import positive


@dataclass(frozen=True)
class Options:
    """TensorRT inside TensorFlow."""

    # TensorFloat-32 inside the engines, fixed when they are built.
    tf32: bool = True
    # The smallest number of nodes worth an engine.
    minimum_segment_size: int = 3
    # MiB of scratch memory while kernels are chosen; None: no limit.
    max_workspace_mib: int | None = None
    # Engines that each converted part of the graph keeps; None: one for each batch size.
    maximum_cached_engines: int | None = None
    # One engine for a range of shapes in place of one for each batch size.
    dynamic_shapes: bool = False
    # What a dynamic engine is tuned for.
    profile_strategy: Literal["Range", "Optimal", "Range+Optimal"] = "Range"

    def __post_init__(self) -> None:
        """OptionError for a number below 1."""
        positive(self, "minimum_segment_size", "max_workspace_mib", "maximum_cached_engines")

    def problem(self, batch_sizes: tuple[int, ...]) -> str | None:
        """Why these batch sizes cannot all have an engine, as a sentence; None if they can."""
        cached, sizes = self.maximum_cached_engines, len(batch_sizes)
        if cached is None or cached >= sizes or self.dynamic_shapes:
            return None
        return (
            f"`tftrt.maximum_cached_engines` is {cached}, but benchmark.batch_sizes and evaluation.batch_size are "
            f"{sizes} sizes, each with an engine of its own; raise it to {sizes}, or set null"
        )
