from typing import Any

import pytest

from stages.params import load, training
from stages.params.model import ModelParams
from stages.params.training import QatParams, TrainParams
from tests.fixtures.params import CUSTOM, TRAINED, Edit, mistakes


def source(*variants: str) -> str | None:
    return training.source(load.read(ModelParams), load.read(TrainParams), variants)


def test_a_model_that_is_trained_takes_training_images(edit: Edit) -> None:
    edit(*CUSTOM)
    assert source("tflite-int8") is None
    edit(*TRAINED)
    assert source("tflite-int8") == "split"


def test_a_variant_that_is_trained_for_int8_takes_training_images(edit: Edit) -> None:
    edit(*CUSTOM, ("train.source", "photos"))
    assert not training.asks_qat(["tflite-int8"])
    assert training.asks_qat(["savedmodel-fp32", "tensorrt-int8-qat"])
    assert source("savedmodel-fp32", "tensorrt-int8-qat") == "photos"


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("backbone", "ResNet", "unknown-model"),
        ("epochs", 0, "greater-than-equal"),
        ("frozen_epochs", -1, "greater-than-equal"),
        ("validation", 0, "greater-than"),
        ("seeds", [], "too-short"),
        ("seeds", [1, 1], "repeated"),
        ("learning_rate", "3e-3", "float-type"),
        ("learning_rate", 0, "greater-than"),
        ("augment.zoom", 1.0, "no-share"),
        ("augment.shift", -0.1, "no-share"),
        ("augment.rotate_degrees", 181, "less-than-equal"),
        ("augment", None, "dataclass-type"),
    ],
)
def test_a_wrong_value_for_training_is_refused(edit: Edit, key: str, value: Any, code: str) -> None:
    edit((f"train.{key}", value))
    assert mistakes(lambda: load.read(TrainParams)) == {f"train.{key}": code}


@pytest.mark.parametrize("backbone", ["small", "mobilenet_v2", "ResNet50"])
def test_a_backbone_is_a_model_of_the_zoo_or_small(edit: Edit, backbone: str) -> None:
    edit(("train.backbone", backbone))
    assert load.read(TrainParams).backbone == backbone


def test_frozen_epochs_may_be_none(edit: Edit) -> None:
    edit(("train.frozen_epochs", 0))
    assert load.read(TrainParams).frozen_epochs == 0


@pytest.mark.parametrize(("key", "code"), [("epochs", "greater-than-equal"), ("learning_rate", "greater-than")])
def test_a_training_for_int8_takes_a_step(edit: Edit, key: str, code: str) -> None:
    edit((f"qat.{key}", 0))
    assert mistakes(lambda: load.read(QatParams)) == {f"qat.{key}": code}
