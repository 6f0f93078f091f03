"""Runs a SavedModel that TF-TRT converted: its engines answer, or nothing does."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...contracts.preprocessing import Floats
from ...core import files
from ...core.errors import PipelineError
from ..contract import Array
from ..shared.saved_model import SavedModelSession
from . import profile
from .options import Options

# The engine sizes that were built, beside the SavedModel.
BATCH_SIZES = "batch_sizes.json"


class TFTRTSession(SavedModelSession):
    """A converted SavedModel whose engines answer, or nothing does."""

    def __init__(self, folder: Path, threads: int | None, tf32: bool) -> None:
        """Load, with TF-TRT's silent fallback to TensorFlow forbidden."""
        os.environ["TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION"] = "False"
        super().__init__(folder, threads, tf32)
        self._batch_sizes = batch_sizes(folder)
        self._count = 0

    def put(self, images: Floats) -> None:
        """A batch that lies between two engines is filled up to the next one, as an engine may take one size only."""
        self._count = len(images)
        size = min((size for size in self._batch_sizes if size >= len(images)), default=len(images))
        if size > len(images):
            images = np.concatenate([images, np.zeros((size - len(images), *images.shape[1:]), np.float32)])
        super().put(images)

    def run(self) -> Array:
        """Call the signature; PipelineError where TensorFlow would have stood in for an engine."""
        try:
            return super().run()
        except self._tf.errors.AbortedError as error:
            raise PipelineError(
                f"TensorFlow ran in an engine's place on a batch of {self._count} (engines were built for "
                f"{self._built}; {str(error).strip().splitlines()[0]}): run `make repro`, which builds them anew",
                code="tftrt-no-engine",
                batch_size=self._count,
                engines=self._batch_sizes,
            ) from None

    def probabilities(self, output: Array) -> npt.NDArray[np.float32]:
        """Without the rows that filled the batch."""
        return output[: self._count]

    def first_not_finite(self, image: Floats) -> str:
        """An engine does not tell of what is inside it."""
        return ""

    def prove(self) -> None:
        """Profile one call: an engine answers, none is built, and no part falls back to TensorFlow."""
        steps = profile.steps(self._tf, self.run)
        wrong = sorted(steps & profile.FALLBACKS)
        if wrong or profile.ENGINE not in steps:
            raise PipelineError(
                f"TensorRT did not answer alone on a batch of {self._count}: the profile shows "
                f"{' and '.join(wrong) or f'no {profile.ENGINE}'} (engines: {self._built}); run `make repro`, which "
                "builds them anew",
                code="tftrt-fallback",
                batch_size=self._count,
                engines=self._batch_sizes,
                steps=tuple(wrong),
            )

    @property
    def _built(self) -> str:
        return ", ".join(map(str, self._batch_sizes))


def batch_sizes(folder: Path) -> tuple[int, ...]:
    """Those that there are engines for, smallest first."""
    return tuple(int(size) for size in files.read_json(folder / BATCH_SIZES))


def open_session(folder: Path, precision: str, options: Options, threads: int | None) -> TFTRTSession:
    """A session on the converted SavedModel, reloaded from disk with its engines."""
    return TFTRTSession(folder, threads, options.tf32)
