"""Images by name, as a converted variant's own worker classifies them."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from stages.commands import predict
from stages.contracts import codec, labels
from stages.contracts.conversion import MANIFEST, Manifest, folder
from stages.contracts.labels import Labels
from stages.contracts.model import MODEL
from stages.contracts.row import SUMMARY
from stages.contracts.selection import SELECTION
from stages.contracts.status import OK, Status
from stages.contracts.variant import BASELINE, Variant
from stages.core import files
from stages.runtimes import loading
from tests.fixtures.errors import named, refused
from tests.fixtures.records import TINY
from tests.fixtures.tiny import save_tiny
from tests.reporting.rows import SELECTION as SELECTED
from tests.reporting.rows import row, summary

CLASSES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
def converted(checkout: Path) -> None:
    """A baseline of six classes."""
    save_tiny(folder(BASELINE.name), (4, 4, 3), len(CLASSES))
    codec.write(Manifest(BASELINE, OK, {"tf32": True}), folder(BASELINE.name) / MANIFEST)
    codec.write(TINY, MODEL)
    labels.write(Labels.from_names(CLASSES))


def test_five_classes_of_each_image_in_the_order_given(
    converted: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, colour in (("red cat.png", "red"), ("b.jpg", "blue")):
        Image.new("RGB", (20, 10), colour).save(tmp_path / name)
    predict.predict([str(tmp_path / "red cat.png"), str(tmp_path / "b.jpg")], None)
    first, *five, second = capsys.readouterr().out.splitlines()[:7]
    assert (first, second) == (f"{tmp_path}/red cat.png (savedmodel-fp32)", f"{tmp_path}/b.jpg (savedmodel-fp32)")
    shares = [float(line.split("%")[0]) for line in five]
    assert len(shares) == 5 and shares == sorted(shares, reverse=True)
    assert {line.split()[-1] for line in five} <= set(CLASSES)


def test_what_is_no_image_is_named_as_the_user_named_it(converted: None, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no image")
    assert str(tmp_path / "notes.jpg") in str(refused(predict.predict, [str(tmp_path / "notes.jpg")], None))
    assert "nowhere.jpg" in str(refused(predict.predict, ["nowhere.jpg"], None))


def test_a_damaged_variant_concerns_itself_alone(converted: None, tmp_path: Path) -> None:
    damaged = folder("tflite-int8") / MANIFEST
    files.write_text(damaged, "{")
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    predict.predict([str(tmp_path / "a.png")], BASELINE.name)
    assert str(damaged) in str(refused(predict.predict, [str(tmp_path / "a.png")], "tflite-int8"))


def test_a_record_of_another_variant_is_named(converted: None) -> None:
    path = folder("tflite-int8") / MANIFEST
    codec.write(Manifest(BASELINE, OK, {"tf32": True}), path)
    assert named(refused(predict.converted, "tflite-int8"), "file") == ("manifest-variant", str(path))


def other(name: str = "tflite-int8", status: Status = OK) -> None:
    """One more variant beside the baseline."""
    codec.write(Manifest(Variant.parse(name), status, {"xnnpack": True}), folder(name) / MANIFEST)


def choice(*names: str, winner: str | None, figures: str = "") -> None:
    """Results of these variants."""
    codec.write(summary(*(row(name) for name in names)), SUMMARY)
    codec.write(replace(SELECTED, winner=winner, figures=figures or files.sha256(SUMMARY)), SELECTION)


def test_without_a_variant_the_chosen_one_answers(converted: None) -> None:
    other()
    assert predict.converted(None).variant == BASELINE
    choice(BASELINE.name, "tflite-int8", winner="tflite-int8")
    assert predict.converted(None).variant.name == "tflite-int8"
    assert predict.converted(BASELINE.name).variant == BASELINE


@pytest.mark.parametrize(("winner", "figures"), [(None, ""), ("tflite-int8", "0" * 64), ("tensorrt-fp16", "")])
def test_without_a_choice_of_these_figures_the_first_converted_one_answers(
    converted: None, winner: str | None, figures: str
) -> None:
    other()
    choice(BASELINE.name, "tflite-int8", winner=winner, figures=figures)
    assert predict.converted(None).variant == BASELINE


def test_a_chosen_one_that_was_not_converted_again_does_not_answer(converted: None) -> None:
    other(status=Status("failed", "no memory"))
    choice(BASELINE.name, "tflite-int8", winner="tflite-int8")
    assert predict.converted(None).variant == BASELINE


def test_what_is_left_of_an_earlier_run_does_not_answer(converted: None) -> None:
    other()
    choice("tflite-int8", winner=None)
    assert predict.converted(None).variant.name == "tflite-int8"
    error = refused(predict.converted, BASELINE.name)
    assert named(error, "variant") == ("not-converted", BASELINE.name)


@pytest.mark.parametrize("value", ["yes", None, 1.5])
def test_an_option_of_the_wrong_kind_is_named_with_its_file(converted: None, value: str | float | None) -> None:
    path = folder(BASELINE.name) / MANIFEST
    codec.write(Manifest(BASELINE, OK, {"tf32": value}), path)
    error = refused(loading.load, path.parent)
    assert named(error, "file") == ("record-options", str(path))
    assert "tf32" in str(error)


@pytest.mark.parametrize("change", [{"resize": "foo"}, {"channels": "xyz"}, {"scale": [0.007]}])
def test_a_preparation_that_nothing_does_is_named_with_its_record(
    converted: None, tmp_path: Path, change: dict[str, object]
) -> None:
    record = files.read_json(MODEL)
    record["preprocessing"] |= change
    files.write_json(MODEL, record)
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    error = refused(predict.predict, [str(tmp_path / "a.png")], None)
    assert error.code == "record-field" and str(MODEL) in str(error)
