from pathlib import Path

from stages.contracts import predictions
from stages.contracts.evaluation import predictions_path
from stages.contracts.labels import Labels
from stages.contracts.variant import BASELINE
from stages.reporting import gallery
from tests.reporting.rows import INT8, MIXED

LABELS = Labels.from_names(("tench", "cock", "crane", "hen", "ox"))


def write(variant: str, best: list[int], scores: list[float]) -> None:
    """Predictions on images of class 0."""
    pairs = enumerate(zip(best, scores, strict=True))
    answers = [predictions.Prediction.plain(f"{i}.jpg", 0, [one], [score]) for i, (one, score) in pairs]
    predictions.write(answers, predictions_path(variant))


def test_lost_images_come_first_then_the_surest(checkout: Path) -> None:
    write(BASELINE.name, [1, 0, 1, 0], [0.5] * 4)
    write("tflite-int8", [2, 3, 0, 4], [0.9, 0.6, 0.8, 0.7])
    (shown,) = gallery.galleries(MIXED, LABELS, lambda file: f"picture of {file}")
    assert [one.file for one in shown.shown] == ["3.jpg", "1.jpg", "2.jpg", "0.jpg"]
    assert shown.counts == {"lost": 2, "gained": 1, "other": 1}
    first = shown.shown[0]
    assert (first.kind, first.label, first.image) == ("lost", "tench", "picture of 3.jpg")
    assert (first.before, first.after) == ("tench, 50.0\N{NO-BREAK SPACE}%", "ox, 70.0\N{NO-BREAK SPACE}%")


def test_at_most_24_are_shown_and_all_are_counted(checkout: Path) -> None:
    write(BASELINE.name, [0] * 30, [0.5] * 30)
    write("tflite-int8", [1] * 30, [0.5] * 30)
    (shown,) = gallery.galleries([INT8], LABELS, lambda _: None)
    assert (len(shown.shown), shown.counts["lost"], shown.images) == (24, 30, 30)


def test_a_file_that_is_no_image_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "3.jpg").write_text("no image")
    assert gallery.thumbnail(tmp_path / "3.jpg", upright=True) is None
