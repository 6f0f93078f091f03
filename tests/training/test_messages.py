"""Each sentence of this room once: it names its place and a remedy."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stages.contracts import codec
from stages.contracts.closeness import Gap
from stages.contracts.images import IMAGES, TABLE, TRAINING, ImageSet, ImagesRecord
from stages.core import files
from stages.core.errors import PipelineError
from stages.data.examples import Examples
from stages.training import dataset, fake_quant, fit, qat
from tests.fixtures.errors import assert_helps, refused


def one_image() -> None:
    files.write_csv(TRAINING / TABLE, ("file", "label", "group"), [("a.png", 0, 0)])
    dataset.read(0.1, 0)


def no_image() -> None:
    files.write_csv(TRAINING / TABLE, ("file", "label", "group"), [])
    lost = ImageSet("photos", 0, "", failed="the train set: there is no folder photos: correct the path")
    codec.write(ImagesRecord(lost, lost, lost), IMAGES)
    dataset.read(0.1, 0)


def no_number() -> None:
    fit.Best([], "qat").note({"epoch": 0, "val_loss": float("nan")})


def no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("Unknown layer: Doubled")

    monkeypatch.setattr(fake_quant, "Rules", lambda *_: SimpleNamespace())
    monkeypatch.setattr(fake_quant.calls, "inputs", fail)
    fake_quant.simulate(SimpleNamespace(), SimpleNamespace(_flatten_layers=list))


def other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qat.calls, "flatten", lambda *_: None)
    shown = Examples(np.zeros((1, 4, 4, 3), np.float32), "1 image")
    monkeypatch.setattr(qat.examples, "read", lambda *_: shown)
    monkeypatch.setattr(
        qat.saved_model, "difference", lambda *_: Gap(0.5, 0, 1, 1e-4, shown.words, np.zeros((1, 3), np.float32))
    )
    chosen: Any = SimpleNamespace(network=lambda _: None, classifier_of=lambda *_: SimpleNamespace(preprocessing=None))
    qat.flat(None, chosen)


def no_layers() -> None:
    raise PipelineError(qat.NO_KERAS.format("mine.onnx"), code="qat-no-layers")


SENTENCES: list[tuple[str, Callable[..., Any], bool]] = [
    ("train.validation", one_image, False),
    ("there is no folder photos", no_image, False),
    ("qat.learning_rate", no_number, False),
    ("Unknown layer: Doubled", no_rule, True),
    ("its layers", other_answers, True),
    ("mine.onnx", no_layers, False),
]


@pytest.mark.parametrize(("place", "fail", "patches"), SENTENCES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_sentence_names_its_place_and_a_remedy(
    place: str, fail: Callable[..., Any], patches: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_helps(refused(fail, *([monkeypatch] if patches else [])), place)
