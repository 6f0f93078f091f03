from dataclasses import replace
from pathlib import Path

import pytest

from stages.cluster.keys import Keys
from stages.contracts import codec
from stages.contracts.environment import Fingerprints
from stages.contracts.images import CALIBRATION, IMAGES
from stages.contracts.model import MODEL, ONNX, SAVED_MODEL
from stages.contracts.reference import ANSWERS
from stages.contracts.training import QAT, QAT_RECORD
from stages.core import files
from stages.measurement.conversion import Setting
from stages.params.measurement import BenchmarkParams
from tests.fixtures.records import SETS, TINY

VARIANTS = ("tflite-int8", "tflite-int8-qat", "onnxruntime-int8")
PRINTS = Fingerprints(dict.fromkeys(VARIANTS, "c"), dict.fromkeys(VARIANTS, "p"), "t")
SETTING = Setting((1, 8), 1, {})
BENCHMARK = BenchmarkParams(batch_sizes=(1,), min_samples=10, min_seconds=0.0, repeats=1, threads=None)


@pytest.fixture
def prepared(checkout: Path) -> None:
    codec.write(TINY, MODEL)
    codec.write(SETS, IMAGES)
    for path in (SAVED_MODEL / "saved_model.pb", ANSWERS, ONNX, CALIBRATION / "a.png", QAT / "model.onnx", QAT_RECORD):
        files.write_text(path, "content")


def converted(setting: Setting = SETTING, prints: Fingerprints = PRINTS) -> dict[str, str]:
    keys = Keys(prints)
    return {name: keys.convert(name, setting) for name in VARIANTS}


def changed(before: dict[str, str], setting: Setting = SETTING, prints: Fingerprints = PRINTS) -> set[str]:
    return {name for name, key in converted(setting, prints).items() if key != before[name]}


def test_a_conversion_depends_on_what_it_reads(prepared: None) -> None:
    before = converted()
    assert not changed(before)
    another = replace(PRINTS, convert=PRINTS.convert | {"tflite-int8": "another"}, time="another")
    assert changed(before, prints=another) == {"tflite-int8"}
    files.write_text(QAT / "model.onnx", "another")
    assert changed(before) == {"tflite-int8-qat"}
    for path in (CALIBRATION / "a.png", ANSWERS):
        before = converted()
        files.write_text(path, "another")
        assert changed(before) == set(VARIANTS)


@pytest.mark.parametrize("setting", [Setting((1,), 1, {}), Setting((1, 8), 2, {}), Setting((1, 8), 1, {"xnnpack": 0})])
def test_a_conversion_depends_on_its_setting(prepared: None, setting: Setting) -> None:
    assert changed(converted(), setting=setting) == set(VARIANTS)


def test_an_evaluation_depends_on_its_model_the_images_and_the_batch_size(prepared: None) -> None:
    name = VARIANTS[0]
    key = Keys(PRINTS).evaluate(name, "model", 8)
    assert key == Keys(PRINTS).evaluate(name, "model", 8)
    assert len({key, Keys(PRINTS).evaluate(name, "other", 8), Keys(PRINTS).evaluate(name, "model", 9)}) == 3
    codec.write(replace(SETS, evaluation=replace(SETS.evaluation, digest="other")), IMAGES)
    assert Keys(PRINTS).evaluate(name, "model", 8) != key
    codec.write(SETS, IMAGES)
    another = replace(PRINTS, predict=PRINTS.predict | {name: "another"})
    assert Keys(another).evaluate(name, "model", 8) != key


def test_a_timing_depends_on_all_models_and_on_how_they_are_timed(prepared: None) -> None:
    models = dict.fromkeys(VARIANTS, "m")
    key = Keys(PRINTS).benchmark(models, BENCHMARK)
    others = [
        Keys(PRINTS).benchmark(models | {VARIANTS[0]: "other"}, BENCHMARK),
        Keys(PRINTS).benchmark(models, replace(BENCHMARK, repeats=2)),
        Keys(replace(PRINTS, time="another")).benchmark(models, BENCHMARK),
    ]
    assert len({key, *others}) == 4
