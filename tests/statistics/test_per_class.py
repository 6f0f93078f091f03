import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import classification_report

from stages.contracts.labels import Labels
from stages.contracts.predictions import Prediction
from stages.contracts.row import ClassAverages
from stages.core import files
from stages.core.errors import PipelineError
from stages.statistics.per_class import (
    CALIBRATION,
    CLASSES,
    CONFUSION,
    SCORES,
    Bin,
    ClassReport,
    ClassScore,
    Confused,
    lowest,
    most_confused,
    most_lost,
)


def predictions(*pairs: tuple[int, int], scores: Sequence[float] | None = None) -> list[Prediction]:
    """From (label, best class) of each image; a probability of 0.5 unless given."""
    found = zip(pairs, scores or [0.5] * len(pairs), strict=True)
    return [Prediction.plain(f"{i}.jpg", label, [best], [score]) for i, ((label, best), score) in enumerate(found)]


def classes(*pairs: tuple[int, int]) -> ClassReport:
    return ClassReport.from_predictions(predictions(*pairs))


# Classes 0 and 1 are known in part, 2 is never predicted, 9 has no images.
MIXED = ((0, 0), (0, 0), (0, 1), (1, 1), (2, 0), (2, 9))


def test_each_class_has_the_scores_that_counting_gives() -> None:
    assert classes(*MIXED).scores == (
        ClassScore(0, pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3),
        ClassScore(1, 0.5, 1, pytest.approx(2 / 3), 1),
        ClassScore(2, None, 0, 0, 2),
        ClassScore(9, 0, None, 0, 0),
    )


def test_an_image_without_an_answer_is_missed_by_its_class_and_in_no_count_or_bin() -> None:
    found = ClassReport.from_predictions([*predictions((0, 0), (1, 1)), Prediction.plain("nan.jpg", 0, [], [])])
    assert [(score.label, score.recall, score.support) for score in found.scores] == [(0, 0.5, 2), (1, 1, 1)]
    assert found.confusion == {(0, 0): 1, (1, 1): 1}
    assert sum(one.images for one in found.bins) == 2


def test_averages_are_over_the_classes_that_have_images() -> None:
    assert classes(*MIXED).averages() == ClassAverages(
        # An undefined precision is a 0 among the others.
        macro_precision=pytest.approx((2 / 3 + 1 / 2 + 0) / 3),
        macro_recall=pytest.approx((2 / 3 + 1 + 0) / 3),
        macro_f1=pytest.approx((2 / 3 + 2 / 3 + 0) / 3),
        weighted_precision=pytest.approx((3 * 2 / 3 + 1 / 2 + 0) / 6),
        weighted_recall=pytest.approx(1 / 2),
        weighted_f1=pytest.approx((3 * 2 / 3 + 2 / 3 + 0) / 6),
        ece=pytest.approx(0),
    )


def test_averages_are_those_of_scikit_learns_report() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 300)
    # Class 12 has no images, and class 3 is never predicted.
    best = np.where(rng.random(300) < 0.6, labels, rng.integers(0, 13, 300))
    best[best == 3] = 4
    found = classes(*zip(labels.tolist(), best.tolist(), strict=True)).averages()
    theirs = classification_report(labels, best, labels=range(12), output_dict=True, zero_division=0)
    for kind in ("macro", "weighted"):
        for ours, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert getattr(found, f"{kind}_{ours}") == pytest.approx(theirs[f"{kind} avg"][name])
    assert found.weighted_recall == pytest.approx(np.mean(labels == best))


@pytest.mark.filterwarnings("error")
def test_one_image_of_each_class_is_no_reason_to_warn() -> None:
    assert classes(*((label, label) for label in range(40))).averages().macro_f1 == 1


def test_one_class_alone_has_figures_and_no_drawing() -> None:
    report = classes((7, 7), (7, 7), (7, 3), (7, 7))
    assert report.averages().macro_recall == 0.75
    assert (report.averages().macro_precision, report.drawable) == (1, False)


def test_no_predictions_have_no_classes() -> None:
    report = classes()
    assert (report.scores, report.confusion, report.bins, report.drawable) == ((), {}, (), False)
    assert lowest(report) == most_lost(report, report) == most_confused(report, report) == []


# Calibration.


def test_the_calibration_error_is_that_of_its_definition() -> None:
    # Two images in (0.8, 0.867], one of them right; one in (0.933, 1], right; one in (0.333, 0.4], wrong.
    found = predictions((0, 0), (0, 1), (0, 0), (0, 1), scores=[0.82, 0.86, 0.96, 0.4])
    report = ClassReport.from_predictions(found)
    assert [(bin_.images, bin_.confidence, bin_.accuracy) for bin_ in report.bins] == [
        (1, pytest.approx(0.4), 0), (2, pytest.approx(0.84), 0.5), (1, pytest.approx(0.96), 1),
    ]  # fmt: skip
    assert report.bins[0].high == pytest.approx(0.4)
    assert report.ece == pytest.approx((1 * 0.4 + 2 * 0.34 + 1 * 0.04) / 4)


def test_confidences_at_the_ends_lie_in_a_bin() -> None:
    report = ClassReport.from_predictions(predictions((0, 0), (0, 0), (0, 1), scores=[1.0000001, 1.0, 0.0]))
    assert [(bin_.low, bin_.high, bin_.images) for bin_ in report.bins] == [
        (0, pytest.approx(1 / 15), 1), (pytest.approx(14 / 15), 1, 2),
    ]  # fmt: skip


def test_a_model_that_is_as_often_right_as_it_says_is_calibrated() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.2, 1, 50_000)
    right = rng.random(50_000) < scores
    sure = predictions(*((0, int(not one)) for one in right), scores=scores.tolist())
    assert ClassReport.from_predictions(sure).ece < 0.01
    too_sure = [one._replace(scores=[min(1.0, one.scores[0] + 0.1)]) for one in sure]
    assert ClassReport.from_predictions(too_sure).ece == pytest.approx(0.1, abs=0.01)


# Confusion.


def test_the_matrix_has_a_last_column_for_classes_without_images() -> None:
    report = classes(*MIXED)
    assert report.confusion == {(0, 0): 2, (0, 1): 1, (1, 1): 1, (2, 0): 1, (2, 9): 1}
    assert report.matrix().tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 1]]


@pytest.mark.parametrize(("count", "drawable"), [(1, False), (2, True), (30, True), (31, False)])
def test_a_matrix_is_drawn_of_two_to_thirty_classes(count: int, drawable: bool) -> None:
    assert classes(*((label, label) for label in range(count)), (0, 999)).drawable is drawable


def test_the_lowest_scores_come_first_and_at_most_ten() -> None:
    report = classes((0, 0), (1, 2), (1, 2), (3, 3), (3, 0), (4, 9))
    assert [score.label for score in lowest(report)] == [1, 4, 3, 0]
    assert len(lowest(classes(*((label, 99) for label in range(40))))) == 10


def test_the_largest_losses_come_first_and_gains_are_left_out() -> None:
    before = classes((0, 0), (0, 0), (1, 1), (1, 1), (2, 0), (3, 3))
    after = classes((0, 0), (0, 5), (1, 5), (1, 5), (2, 2), (3, 3))
    assert [(old.label, old.f1, new.f1) for old, new in most_lost(before, after)] == [
        (1, 1, 0), (0, pytest.approx(0.8), pytest.approx(2 / 3)),
    ]  # fmt: skip


def test_the_most_confused_pairs_come_first_with_both_counts() -> None:
    before = classes((0, 1), (0, 1), (0, 1), (1, 0), (2, 2), (2, 2))
    after = classes((0, 1), (0, 0), (0, 0), (1, 1), (2, 0), (2, 0))
    assert most_confused(before, after) == [Confused(0, 1, 3, 1), Confused(2, 0, 0, 2), Confused(1, 0, 1, 0)]
    many = classes(*((label, 99) for label in range(40)))
    assert len(most_confused(many, many)) == 15


# Files.


def test_what_was_written_is_read(checkout: Path) -> None:
    report = ClassReport.from_predictions(predictions(*MIXED, scores=[0.1, 1 / 3, 0.7, 0.99, 1e-9, 0.5]))
    report.write(CLASSES, "tflite-int8", Labels(("tench", "a, b", "crane"), ("n1", "n2", "n3")))
    assert ClassReport.read("tflite-int8") == report
    assert (CLASSES / f"tflite-int8{SCORES}").read_text().splitlines()[2:] == [
        '1,"a, b",0.5,1.0,0.6666666666666666,1', "2,crane,,0.0,0.0,2", "9,class 9,0.0,,0.0,0",
    ]  # fmt: skip
    assert (CLASSES / f"tflite-int8{CONFUSION}").read_text().startswith("label,predicted,images\n0,0,2\n")


def test_a_missing_table_is_named(checkout: Path) -> None:
    with pytest.raises(PipelineError, match=r"tflite-int8\.csv"):
        ClassReport.read("tflite-int8")


@pytest.mark.parametrize("kind", [SCORES, CONFUSION, CALIBRATION])
def test_a_table_of_something_else_is_named(checkout: Path, kind: str) -> None:
    classes(*MIXED).write(CLASSES, "tflite-int8", Labels((), ()))
    files.write_text(CLASSES / f"tflite-int8{kind}", "file,label\na.jpg,1\n")
    with pytest.raises(PipelineError, match=f"tflite-int8{kind}"):
        ClassReport.read("tflite-int8")


def test_20000_classes_take_seconds_and_no_square_of_memory(checkout: Path) -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(40_000) % 20_000
    best = np.where(rng.random(40_000) < 0.7, labels, rng.integers(0, 20_000, 40_000))
    found = predictions(*zip(labels.tolist(), best.tolist(), strict=True), scores=rng.random(40_000).tolist())
    names = tuple(f"class number {i}" for i in range(20_000))
    start = time.perf_counter()
    report = ClassReport.from_predictions(found)
    report.write(CLASSES, "tflite-int8", Labels(names, names))
    assert ClassReport.read("tflite-int8").averages() == report.averages()
    assert len(most_lost(report, report)) == 0 and len(most_confused(report, report)) == 15
    # It takes one second here.
    assert time.perf_counter() - start < 10
    assert (len(report.scores), sum(report.confusion.values()), report.drawable) == (20_000, 40_000, False)


def test_a_bin_holds_its_raw_values() -> None:
    (bin_,) = ClassReport.from_predictions(predictions((0, 0), (0, 1), scores=[0.61, 0.65])).bins
    assert bin_ == Bin(pytest.approx(0.6), pytest.approx(2 / 3), 2, pytest.approx(0.63), 0.5)
