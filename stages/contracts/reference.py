"""reports/answers.npy: what the SavedModel answers on a few images, which every converted model is held against."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import files
from ..core.errors import PipelineError
from .preprocessing import Floats

ANSWERS = Path("reports/answers.npy")


@dataclass(frozen=True)
class Reference:
    """What a converted model is held against, by the path of these answers and by the figures of ModelRecord."""

    answers: str
    parameters: int
    allowed_difference: float


def write(answers: Floats, path: Path = ANSWERS) -> None:
    """Write probabilities, float32 [images, classes], whole or not at all."""
    content = io.BytesIO()
    np.save(content, answers, allow_pickle=False)
    files.write_bytes(path, content.getvalue())


def read(path: Path = ANSWERS) -> Floats:
    """The inverse; PipelineError where the file is missing or damaged."""
    try:
        answers: Floats = np.load(path, allow_pickle=False)
        return answers
    except (OSError, ValueError, EOFError) as error:
        raise PipelineError(
            f"{path} does not load ({error}): delete it and run `make repro`, which writes it anew",
            code="answers-damaged",
            file=str(path),
        ) from None
