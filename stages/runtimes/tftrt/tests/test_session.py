"""What a session does around TensorFlow's call, on a CPU: the engines are played by a model that fails as they do."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import files
from stages.runtimes.contract import Interface, Tensor, infer
from stages.runtimes.tftrt import profile
from stages.runtimes.tftrt.options import Options
from stages.runtimes.tftrt.serve import describe
from stages.runtimes.tftrt.session import BATCH_SIZES, TFTRTSession, open_session
from tests.fixtures import tiny
from tests.fixtures.errors import named, refused

SHAPE, CLASSES = (8, 8, 3), 6
example = partial(tiny.example, shape=SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A SavedModel beside the sizes of engines for 2 and 8 images, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("saved_model")
    answer = tiny.save_tiny(folder, SHAPE, CLASSES)
    files.write_json(folder / BATCH_SIZES, [2, 8])
    return folder, answer


@pytest.fixture
def session(model: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch) -> TFTRTSession:
    monkeypatch.setenv("TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION", "True")
    return open_session(model[0], "fp32", Options(), None)


@pytest.mark.parametrize(("size", "filled"), [(1, 2), (2, 2), (3, 8), (8, 8), (9, 9)])
def test_a_batch_is_filled_up_to_the_next_engine(
    model: tuple[Path, Any], session: TFTRTSession, size: int, filled: int
) -> None:
    answer = infer(session, example(size))
    assert session._images.shape[0] == filled
    np.testing.assert_allclose(answer, model[1](example(size)), atol=1e-6)


def test_a_fallback_to_tensorflow_is_forbidden_and_an_error(
    session: TFTRTSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    import tensorflow as tf

    def abort(**images: Any) -> Any:
        raise tf.errors.AbortedError(None, None, "native segment execution is disabled\nmore")

    assert os.environ["TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION"] == "False"
    monkeypatch.setattr(session, "_signature", abort)
    session.put(example(9))
    error = refused(session.run)
    assert named(error, "batch_size", "engines") == ("tftrt-no-engine", 9, (2, 8))
    assert "native segment execution is disabled)" in str(error)


@pytest.mark.parametrize("steps", [set(), {profile.ENGINE, *profile.FALLBACKS}])
def test_what_the_profile_shows_besides_engines_is_an_error(
    session: TFTRTSession, monkeypatch: pytest.MonkeyPatch, steps: set[str]
) -> None:
    session.put(example(2))
    monkeypatch.setattr(profile, "steps", lambda tf, call: {profile.ENGINE, "other"})
    session.prove()
    monkeypatch.setattr(profile, "steps", lambda tf, call: steps)
    error = refused(session.prove)
    assert named(error, "batch_size", "engines") == ("tftrt-fallback", 2, (2, 8))
    assert error.values["steps"] == tuple(sorted(steps - {profile.ENGINE}))


def test_a_server_gets_the_signature_and_the_sizes_of_the_engines(model: tuple[Path, Any]) -> None:
    source, result = Tensor("images", "float32", (-1, *SHAPE)), Tensor("probabilities", "float32", None)
    assert describe(model[0]) == Interface(source, result, (2, 8))
