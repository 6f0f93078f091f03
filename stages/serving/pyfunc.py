"""A variant as MLflow loads it, far from this repository: images in, a table of their classes out.

`register` puts this module and those it imports into the model, so what MLflow answers comes from the code that was
evaluated.
"""

import base64
import tempfile
import threading
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from ..contracts import codec, labels
from ..contracts.predictions import top_k
from ..contracts.preprocessing import Floats
from ..core.errors import PipelineError
from ..data import decode, fit
from ..runtimes import loading
from ..runtimes.contract import Session, infer
from .gate import Gate
from .setting import LABELS, MODEL, SETTING, Setting

# The signature's only input.
INPUT = "image"
# Of a file from the network.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


class Answer(NamedTuple):
    """What a model says of one image: its best class, and the best five with their probabilities."""

    label: int
    name: str
    wnid: str
    score: float
    top5_labels: list[int]
    top5_names: list[str]
    top5_scores: list[float]


class ServedModel:
    """What `mlflow.pyfunc` calls; the runtime is imported and the model loaded by the first prediction."""

    def __init__(self, folder: Path) -> None:
        """Read all but the model itself."""
        setting = codec.read(Setting, folder / SETTING)
        self._folder = folder / MODEL
        self._batch_size = setting.batch_size
        self._preprocessing = setting.preprocessing
        self._classes = labels.read(folder / LABELS)
        self._gate = Gate()
        self._lock = threading.Lock()  # MLflow's server calls from several threads, and a session has one input tensor

    def predict(self, model_input: dict[str, npt.NDArray[Any]]) -> pd.DataFrame:
        """One row per image, in order; MlflowException with one sentence for a request that is not answered."""
        with self._gate.request():
            return pd.DataFrame(self._answers(model_input[INPUT]), columns=list(Answer._fields))

    def _answers(self, images: npt.NDArray[Any]) -> list[Answer]:
        rows: list[Answer] = []
        # The evaluation's own batches: TensorRT has an engine for them, and memory stays flat.
        for start in range(0, len(images), self._batch_size):
            batch = images[start : start + self._batch_size]
            rows += self._classify(np.stack([self._load(start + i, image) for i, image in enumerate(batch)]))
        return rows

    def _load(self, position: int, image: Any) -> Floats:
        try:
            return fit.model_input(open_image(image, self._preprocessing.orientation), self._preprocessing)
        except (PipelineError, ValueError) as error:
            raise ValueError(f"image {position} of this request: {error}") from None

    def _classify(self, batch: Floats) -> list[Answer]:
        with self._lock:
            probabilities = infer(self._session, batch)
        if not np.isfinite(probabilities).all():
            raise ValueError("the model answers NaN or infinity on an image of this request, which is no class")
        return [
            self._row(best, row[best].astype(float).tolist())
            for best, row in zip(top_k(probabilities), probabilities, strict=True)
        ]

    def _row(self, best: npt.NDArray[np.int64], scores: list[float]) -> Answer:
        indices: list[int] = best.tolist()
        names = [self._classes.names[index] for index in indices]
        return Answer(indices[0], names[0], self._classes.wnids[indices[0]], scores[0], indices, names, scores)

    @cached_property
    def _session(self) -> Session:
        return loading.load(self._folder)


def open_image(image: Any, upright: bool) -> Image.Image:
    """An RGB image from its pixels, from the bytes of a JPEG, PNG, BMP or WebP file, or from those in base64.

    `upright`: whether a file's orientation tag is followed.
    """
    if isinstance(image, np.ndarray) and image.dtype == object:
        image = image.tolist()  # what JSON held
    if isinstance(image, str):
        image = _from_base64(image)
    return _decoded(image, upright) if isinstance(image, bytes) else Image.fromarray(_pixels(np.asarray(image)))


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise ValueError("its text is not base64: send that of a JPEG or PNG") from None


def _decoded(content: bytes, upright: bool) -> Image.Image:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            return decode.decode(Path(file.name), FORMATS, upright=upright)
        except PipelineError:
            raise ValueError("its bytes are no image file that Pillow can read: send a JPEG or PNG") from None


def _pixels(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    whole = pixels.dtype.kind in "iu" and pixels.size and pixels.min() >= 0 and pixels.max() <= 255
    if not whole or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"it should be uint8 RGB of shape [height, width, 3], or a JPEG, and is {pixels.dtype} of "
            f"shape {list(pixels.shape)}"
        )
    return pixels.astype(np.uint8)


def _load_pyfunc(folder: str) -> ServedModel:
    """MLflow's name for the function that loads a model."""
    return ServedModel(Path(folder))
