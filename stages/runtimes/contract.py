"""What every runtime offers, so that all variants are converted, evaluated and timed by the same code."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stages.contracts.preprocessing import Floats


@dataclass(frozen=True)
class Job:
    """One conversion: from a SavedModel, or the ONNX file made of it, to files in `target`.

    Fake quantisation in either holds the ranges that INT8 is to have.
    """

    saved_model: Path
    onnx: Path
    target: Path
    precision: str
    input_shape: tuple[int, int, int]
    # Calibration images in full batches of the given size: float32 [size, height, width, channels].
    calibration: Callable[[int], Iterator[Floats]]
    batch_sizes: tuple[int, ...]  # in order, smallest first
    options: dict[str, Any]


# What the GPU does in one inference from host to host.
PARTS = ("input_copy", "compute", "output_copy")


class Session(Protocol):
    """A loaded model. `run` is what `latency` times; `put`, `run` and `probabilities` are what `latency_host` times."""

    # Whether `put` may return before the tensor is on the device.
    asynchronous: bool
    # Whether a GPU computes.
    on_gpu: bool

    def put(self, images: Floats) -> None:
        """Set the input tensor, float32 [n, height, width, channels], on the runtime's device; n may change."""

    def run(self) -> npt.NDArray[Any]:
        """Infer, and wait until the output tensor is a NumPy array of the model's own type."""

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Turn an output into float32 [n, classes]."""

    def verify(self) -> None:
        """Run once more, and fail if anything but the converted model answers; PipelineError says what did.

        There is nothing to do where the runtime has nothing to fall back to.
        """
        return

    def gpu_peak_bytes(self) -> int | None:
        """Most GPU memory the runtime's allocator held; None on a CPU, and where the allocator does not tell."""
        return None

    def parts_ms(self) -> dict[str, float] | None:
        """Milliseconds of one inference in each of `PARTS` by the GPU's own clock; None where that is not known."""
        return None


class Runtime(Protocol):
    """A module of this package."""

    def unavailable(self, precision: str, environment: dict[str, Any]) -> str | None:
        """Why this machine cannot run that precision, from environment.json alone; None: it can."""

    def convert(self, job: Job) -> dict[str, Any]:
        """Write the converted model into job.target; returns what this runtime alone can tell of it."""

    def load(self, folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
        """Load a converted model with `threads` CPU threads (None: all cores)."""


def infer(session: Session, images: Floats) -> npt.NDArray[np.float32]:
    """Probabilities [n, classes] of images [n, height, width, channels] from host to host."""
    session.put(images)
    return session.probabilities(session.run())
