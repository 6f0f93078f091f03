from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.params import load
from stages.params.model import CustomParams, ModelParams
from tests.fixtures.params import CUSTOM, TRAINED, Edit, mistakes


def of_model() -> object:
    return mistakes(lambda: load.read(ModelParams))


def of_custom() -> object:
    return mistakes(lambda: load.read(CustomParams))


def test_the_shipped_model_is_of_the_zoo(checkout: Path) -> None:
    assert load.read(ModelParams) == ModelParams("efficientnet_lite0", "imagenet", None)


def test_a_model_of_ones_own_is_a_path_and_what_is_trained_a_word(edit: Edit) -> None:
    edit(*CUSTOM)
    assert not load.read(ModelParams).trains
    edit(*TRAINED)
    assert load.read(ModelParams).trains
    edit(("model.path", "./trained"))
    assert not load.read(ModelParams).trains


def test_an_unknown_model_is_refused(edit: Edit) -> None:
    edit(("model.name", "resnet50"))
    assert of_model() == {"model.name": "unknown-model"}


def test_weights_by_url_are_refused_at_the_door_since_no_stage_can_fetch_them(edit: Edit) -> None:
    edit(("model.weights", "https://host/weights.h5#sha256=" + "0" * 64))
    assert of_model() == {"model.weights": "weights-by-url"}


@pytest.mark.parametrize("path", ["models/trained/model.keras", "models", "data/model/own.h5", "data/train", "reports"])
def test_a_model_where_the_pipeline_writes_is_refused(edit: Edit, path: str) -> None:
    edit(("model.name", "custom"), ("model.path", path))
    assert of_model() == {"model.path": "cleared-folder"}


@pytest.mark.parametrize(
    ("name", "label", "registered"),
    [("MobileNetV2", None, "MobileNetV2"), ("MobileNetV2", "birds_2-x", "birds_2-x"), ("a.b/c:d", None, "a_b_c_d")],
)
def test_a_model_is_registered_under_its_label_or_its_name(name: str, label: str | None, registered: str) -> None:
    assert ModelParams.registered_name.fget(SimpleNamespace(name=name, label=label)) == registered  # type: ignore[attr-defined]


@pytest.mark.parametrize("label", ["two words", "a/b", "a:b", "v1.0"])
def test_a_label_that_no_registry_takes_is_refused(edit: Edit, label: str) -> None:
    edit(("model.label", label))
    assert of_model() == {"model.label": "no-label"}


def test_a_label_may_be_left_out(edit: Edit, checkout: Path) -> None:
    edit(("model", {"name": "efficientnet_lite0", "weights": "imagenet", "path": None}))
    assert load.read(ModelParams).registered_name == "efficientnet_lite0"


def test_a_custom_model_has_a_path_and_no_other_has(edit: Edit) -> None:
    edit(("model.path", "own.keras"))
    assert of_model() == {"model.path": "path-unused"}
    edit(("model.name", "custom"), ("model.path", None))
    assert of_model() == {"model.path": "path-missing"}


@pytest.mark.parametrize(
    ("value", "scale"),
    [
        ("1/255", (1 / 255,)),
        ("1 / 127.5", (1 / 127.5,)),
        (2, (2.0,)),
        (["1/255", 0.5, -1], (1 / 255, 0.5, -1.0)),
        (None, None),
    ],
)
def test_a_scale_is_one_number_or_several_and_may_be_a_fraction(
    edit: Edit, value: Any, scale: tuple[float, ...] | None
) -> None:
    edit(("custom.scale", value))
    assert load.read(CustomParams).scale == scale


def test_other_inputs_are_any_plain_values(edit: Edit) -> None:
    edit(("custom.other_inputs", {"temperature": 1.5, "on": True, "sizes": [1, 2]}))
    assert load.read(CustomParams).other_inputs == {"temperature": 1.5, "on": True, "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("key", "value", "wrong", "code"),
    [
        ("size", [0, 28], "size[0]", "greater-than-equal"),
        ("size", ["a", 28], "size[0]", "int-type"),
        ("size", ["a"], "size[0]", "int-type"),
        ("size", [28], "size", "too-short"),
        ("size", [], "size", "too-short"),
        ("size", [28, 28, 3], "size", "too-long"),
        ("size", 28, "size", "tuple-type"),
        ("scale", "1/0", "scale[0]", "float-type"),
        ("scale", f"{'9' * 400}/1", "scale[0]", "float-type"),
        ("scale", f"1/{'9' * 5000}", "scale[0]", "float-type"),
        ("scale", f"1.{'0' * 5000}/1", "scale[0]", "float-type"),
        ("scale", 0, "scale", "zero"),
        ("std", [1, 0, 1], "std", "zero"),
        ("std", [], "std", "too-short"),
        ("mean", [1, 2, 3, 4], "mean", "too-long"),
        ("mean", "gray", "mean[0]", "float-type"),
        ("mean", float("nan"), "mean[0]", "finite-number"),
        ("mean", True, "mean[0]", "float-type"),
        ("channels", "BGR", "channels", "literal-error"),
        ("answers", "softmax", "answers", "literal-error"),
        ("resize", "fit", "resize", "literal-error"),
        ("crop_fraction", 0, "crop_fraction", "greater-than"),
        ("crop_fraction", 1.5, "crop_fraction", "less-than-equal"),
        ("other_inputs", None, "other_inputs", "dict-type"),
        ("other_inputs", [1], "other_inputs", "dict-type"),
        ("input", 3, "input", "string-type"),
        ("labels", "", "labels", "string-too-short"),
    ],
)
def test_a_wrong_value_for_a_custom_model_is_refused(edit: Edit, key: str, value: Any, wrong: str, code: str) -> None:
    edit((f"custom.{key}", value))
    assert of_custom() == {f"custom.{wrong}": code}
