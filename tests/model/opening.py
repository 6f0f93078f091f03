"""A user's file opened, or refused, as the tests of each kind of file see it."""

from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import PipelineError
from stages.model import formats
from stages.model.signatures import Model
from tests.fixtures.errors import named, refused


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


def opened(tf: Any, path: Path) -> Model:
    return formats.open_model(tf, path)


def refusal(tf: Any, path: Path) -> PipelineError:
    return refused(formats.open_model, tf, path)


def refused_to_load(tf: Any, path: Path) -> PipelineError:
    """The error of a library, as one of the file."""
    error = refusal(tf, path)
    assert named(error, "file", "key") == ("model-does-not-load", path.name, "model.path")
    return error


def answer(tf: Any, model: Model, **given: Any) -> dict[str, Any]:
    found = model.call({name: tf.constant(value) for name, value in given.items()})
    return {name: value.numpy() for name, value in found.items()}
