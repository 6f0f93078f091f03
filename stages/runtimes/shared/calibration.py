"""The images that set INT8 ranges, as model input."""

from collections.abc import Iterator
from pathlib import Path

from ...contracts.conversion import ConvertJob
from ...contracts.preprocessing import Floats
from ...core.errors import PipelineError
from ...data import batches as images


def batches(job: ConvertJob, size: int) -> Iterator[Floats]:
    """The calibration set in full batches of one shape; PipelineError if it does not fill one."""
    paths = images.files(Path(job.calibration))
    full = paths[: len(paths) - len(paths) % size]
    if not full:
        raise PipelineError(
            f"calibration needs at least one batch of {size} images, but calibration.images is {len(paths)}: raise it, "
            "or give its source more",
            code="calibration-too-few",
            key="calibration.images",
            images=len(paths),
            batch_size=size,
        )
    return images.batches(full, job.preprocessing, size)
