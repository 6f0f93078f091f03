from collections.abc import Callable
from pathlib import Path

import pytest

from stages.params import load
from stages.params.data import CalibrationParams, EvaluationParams
from stages.params.model import ModelParams
from stages.params.training import TrainParams
from tests.fixtures.params import Edit, mistakes, sentence

READERS: dict[str, Callable[[], object]] = {
    "model.weights": lambda: load.read(ModelParams),
    "evaluation.source": lambda: load.read(EvaluationParams),
    "calibration.source": lambda: load.read(CalibrationParams),
}


@pytest.mark.parametrize("key", READERS)
@pytest.mark.parametrize(
    "source",
    ["https://host/photos.zip", "http://host/photos.zip#sha256=abc", "weights==1.0", "weights==1.0#md5=" + "0" * 32],
)
def test_a_download_without_its_hash_is_refused(edit: Edit, key: str, source: str) -> None:
    edit((key, source))
    assert mistakes(READERS[key]) == {key: "no-hash"}


@pytest.mark.parametrize("key", READERS)
def test_an_empty_source_is_refused(edit: Edit, key: str) -> None:
    edit((key, ""))
    assert mistakes(READERS[key]) == {key: "string-too-short"}


def test_downloads_with_a_hash_and_local_paths_are_taken(edit: Edit) -> None:
    digest = "#sha256=" + "0f" * 32
    edit(("model.weights", "weights==1.0" + digest), ("evaluation.source", "https://host/photos.zip" + digest))
    edit(("calibration.source", "~/photos"))
    assert load.read(ModelParams).weights == "weights==1.0" + digest
    assert load.read(EvaluationParams).source == "https://host/photos.zip" + digest
    assert load.read(CalibrationParams).source == "~/photos"


@pytest.mark.parametrize(
    "source", ["http://user:word@host/a.zip", "https://word@host/a.zip", "https://host/a.zip?%74oken=word"]
)
@pytest.mark.parametrize("key", [*READERS, "model.path", "custom.other_inputs", "tracking.uri", "tracking.experiment"])
def test_an_address_with_a_secret_is_refused_wherever_it_stands(edit: Edit, key: str, source: str) -> None:
    """By who reads any block: DVC and MLflow keep the whole file."""
    edit((key, {"a": [source]} if key == "custom.other_inputs" else source + "#sha256=" + "0" * 64))
    told = sentence(lambda: load.read(TrainParams))
    assert "word" not in told and "***" in told
    assert mistakes(load.digest) == {key + ".a[0]" * (key == "custom.other_inputs"): "credentials"}


@pytest.mark.parametrize("own", ["data/evaluation", "data/model/mine.h5", "./models/../data/calibration", "models/a"])
def test_folders_that_the_pipeline_clears_are_no_place_for_your_files(checkout: Path, edit: Edit, own: str) -> None:
    for place in (own, str(checkout / own)):
        edit(("evaluation.source", place))
        assert mistakes(READERS["evaluation.source"]) == {"evaluation.source": "cleared-folder"}
    edit(("evaluation.source", "data/holdout"))
    assert load.read(EvaluationParams).source == "data/holdout"
