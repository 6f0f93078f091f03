from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages import evaluate
from stages.contracts import paths, predictions
from stages.contracts.predictions import HEADER, Prediction
from stages.contracts.preprocessing import Floats
from stages.core import files, isolate
from stages.core.errors import PipelineError
from stages.measurement import evaluation, system
from stages.runtimes import Manifest


def prediction(label: int, *classes: int) -> Prediction:
    return Prediction("a.jpg", label, list(classes), [0.5, 0.2, 0.1, 0.05, 0.01])


def test_the_first_and_the_first_five_classes_count(tmp_path: Path) -> None:
    found = [
        prediction(1, 1, 2, 3, 4, 5),
        prediction(5, 1, 2, 3, 4, 5),
        prediction(2, 1, 2, 3, 4, 5),
        prediction(9, *range(5)),
    ]
    counts = evaluation.write(iter(found), tmp_path / "predictions.csv")
    assert counts == {"images": 4, "top1_correct": 1, "top5_correct": 3}
    assert list(predictions.read(tmp_path / "predictions.csv")) == found


@pytest.mark.parametrize(("label", "correct"), [(1, 1), (2, 0)])
def test_a_single_image_counts(label: int, correct: int, tmp_path: Path) -> None:
    counts = evaluation.write([prediction(label, 1, 3, 4, 5, 6)], tmp_path / "predictions.csv")
    assert counts["top1_correct"] == correct


class Red:
    """A session whose best class is the mean of the red channel: images are told apart by what they show."""

    asynchronous = False

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def put(self, images: Floats) -> None:
        self.sizes.append(len(images))
        self._images = images

    def run(self) -> npt.NDArray[Any]:
        best = np.rint(self._images[..., 0].mean(axis=(1, 2)) * 255).astype(int)
        probabilities = np.full((len(best), 10), 0.01, np.float32)
        probabilities[np.arange(len(best)), best] = 0.9
        return probabilities

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return output

    def gpu_peak_bytes(self) -> int | None:
        return None


@pytest.fixture
def seven(checkout: Path, model_record: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Red:
    """Seven images, each as red as its class; the last two are labelled with another class."""
    from PIL import Image

    files.write_json(paths.MODEL, model_record)
    lines = ["file,label"]
    for index in range(7):
        name = f"sub/{index}.png"
        (paths.EVALUATION / "sub").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 5), (index, 0, 0)).save(paths.EVALUATION / name)
        lines.append(f"{name},{index if index < 5 else 9}")
    (paths.EVALUATION / "labels.csv").write_text("\n".join([*lines, ""]))
    session = Red()
    manifest = Manifest("tflite-fp32", "tflite", "fp32", False, "ok", None, {})
    monkeypatch.setattr(Manifest, "load", lambda self, threads=None: session)
    monkeypatch.setattr(Manifest, "read", classmethod(lambda cls, variant: manifest))
    return session


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7])], ids=["1", "3", "7", "8"]
)
def test_every_image_counts_at_every_batch_size(seven: Red, batch_size: int, sizes: list[int]) -> None:
    found = list(evaluation.predict("tflite-fp32", batch_size))
    assert seven.sizes == sizes
    assert [p.file for p in found] == [f"sub/{i}.png" for i in range(7)]
    assert [p.label for p in found] == [0, 1, 2, 3, 4, 9, 9]
    assert [p.classes[0] for p in found] == list(range(7))
    assert all(len(p.classes) == len(p.scores) == 5 for p in found)
    assert found[3].scores[0] == pytest.approx(0.9)


def test_evaluate_writes_every_prediction_and_returns_the_counts(seven: Red) -> None:
    found = evaluation.evaluate("tflite-fp32", 3)
    assert (found["images"], found["top1_correct"]) == (7, 5)
    written = predictions.read(paths.record("tflite-fp32", "predictions.csv"))
    assert [p.classes[0] for p in written] == list(range(7))


def test_a_bad_image_ends_the_evaluation_with_its_name(seven: Red) -> None:
    (paths.EVALUATION / "sub/4.png").write_text("no image")
    with pytest.raises(PipelineError, match=r"data/evaluation/sub/4\.png cannot be read"):
        evaluation.evaluate("tflite-fp32", 3)
    assert not list(Path().rglob("*predictions.csv*"))


Command = Callable[..., None]


def outcome() -> dict[str, Any]:
    return dict(files.read_json(paths.record("tflite-fp32", "evaluate.json")))


def write_manifest(status: str, reason: str | None) -> None:
    manifest = Manifest("tflite-fp32", "tflite", "fp32", False, status, reason, {})
    files.write_json(paths.model("tflite-fp32") / paths.MANIFEST, manifest._asdict())


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_variant_without_a_model_is_skipped(checkout: Path, command_line: Command, status: str) -> None:
    write_manifest(status, "no NVIDIA GPU")
    command_line("tflite-fp32")
    evaluate.main()
    assert outcome() == {"status": "skipped", "reason": "no NVIDIA GPU"}
    assert paths.record("tflite-fp32", "evaluate_system.csv").exists()
    assert paths.record("tflite-fp32", "predictions.csv").read_text() == ",".join(HEADER) + "\n"


def test_main_records_the_counts(seven: Red, command_line: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolate, "call", lambda function, *arguments: function(*arguments))
    command_line("tflite-fp32")
    evaluate.main()
    assert outcome()["status"] == "ok"
    assert outcome()["top1_correct"] == 5
    assert seven.sizes == [7]
    assert len(system.read(paths.record("tflite-fp32", "evaluate_system.csv"))) == 1


def test_a_failure_is_recorded_with_its_reason_and_no_old_predictions(checkout: Path, command_line: Command) -> None:
    write_manifest("ok", None)
    files.write_text(paths.record("tflite-fp32", "predictions.csv"), "from an earlier run")
    command_line("tflite-fp32")
    with pytest.raises(PipelineError, match=r"^tflite-fp32 could not be evaluated: cannot read or write .*labels\.csv"):
        evaluate.main()
    assert outcome()["status"] == "failed"
    assert "labels.csv" in outcome()["reason"]
    assert paths.record("tflite-fp32", "predictions.csv").read_text() == ",".join(HEADER) + "\n"


def test_a_missing_manifest_is_told(checkout: Path, command_line: Command) -> None:
    command_line("tflite-fp32")
    with pytest.raises(PipelineError, match=r"models/tflite-fp32/variant\.json is missing: run `make repro`"):
        evaluate.main()
