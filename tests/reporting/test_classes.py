from dataclasses import replace

import pytest

from stages.contracts.labels import Labels
from stages.contracts.predictions import Prediction
from stages.contracts.row import Row
from stages.reporting import classes
from stages.statistics.per_class import ClassReport
from tests.reporting.rows import BASELINE, DROP, INT8, accuracy, row, summary

LABELS = Labels.from_names(("tench", "cats", "crane"))
TRUTH = [0, 0, 0, 1, 1, 1]


def report(*answers: int) -> ClassReport:
    """Of six images of two classes."""
    pairs = zip(TRUTH, answers, strict=True)
    return ClassReport.from_predictions(
        [Prediction.plain(f"{i}", label, [best], [0.5]) for i, (label, best) in enumerate(pairs)]
    )


BEFORE, AFTER = report(0, 0, 0, 1, 1, 0), report(0, 1, 1, 1, 1, 1)
SAME = row("tflite-fp16", accuracy=accuracy(3, change=replace(DROP, changed=0, lost=0, classes=())))
REPORTS = {"savedmodel-fp32": BEFORE, "tflite-fp16": BEFORE, "tflite-int8": AFTER}


def section(*rows: Row) -> classes.ClassSection:
    """Of these variants."""
    return classes.section(summary(*rows), REPORTS, LABELS)


@pytest.mark.parametrize(
    ("value", "before", "less_is_better", "shown"),
    [
        (0.9, 0.8, False, ("90.0", "+10.00", "good", "better")),
        (0.9, 0.8, True, ("90.0", "+10.00", "bad", "worse")),
        (0.7, 0.8, False, ("70.0", "\N{MINUS SIGN}10.00", "bad", "worse")),
        (0.8, 0.80001, False, ("80.0", "0.00", "", "the same")),
        (0.8, None, False, ("80.0", "", "", "the same")),
        (None, 0.8, False, ("", "", "", "the same")),
    ],
)
def test_a_share_stands_beside_the_baselines(
    value: float | None, before: float | None, less_is_better: bool, shown: tuple[str, ...]
) -> None:
    compared = classes.compared(value, before, less_is_better)
    assert (compared.text, compared.difference, compared.tone, compared.word) == shown


def test_averages_are_compared_with_the_baselines_and_its_own_with_nothing() -> None:
    worse = replace(accuracy(2, change=DROP).averages, macro_recall=0.5, ece=0.1)
    first, second = classes.averages(summary(BASELINE, replace(INT8, accuracy=replace(accuracy(2), averages=worse))))
    assert {cell.difference for cell in first.cells} == {""}
    words = dict(zip(classes.AVERAGES, (cell.word for cell in second.cells), strict=True))
    assert (words["macro_recall"], words["ece"], words["macro_f1"]) == ("worse", "better", "the same")


def test_the_largest_losses_and_the_most_confused_pairs_are_named() -> None:
    details = section(BASELINE, SAME, INT8).details["tflite-int8"]
    # F1 of class 0 was 6/7 and is 1/2, that of class 1 was 4/5 and is 3/4.
    assert [(score.name, score.images, score.cells[2].text) for score in details.scores] == [
        ("tench", 3, "50.0"),
        ("cats", 3, "75.0"),
    ]
    assert [(pair.label, pair.predicted, pair.before, pair.after) for pair in details.confused] == [
        ("tench", "cats", 0, 2),
        ("cats", "tench", 1, 0),
    ]
    assert details.compared and list(details.matrices) == ["before, savedmodel-fp32", "after, tflite-int8"]


def test_what_cannot_be_compared_has_its_lowest_classes() -> None:
    details = section(BASELINE).details["savedmodel-fp32"]
    assert not details.compared and [score.name for score in details.scores] == ["cats", "tench"]
    assert {cell.difference for score in details.scores for cell in score.cells} == {""}
    other_images = section(BASELINE, replace(INT8, accuracy=accuracy(2))).details["tflite-int8"]
    assert not other_images.compared


def test_a_variant_that_changes_nothing_is_only_named() -> None:
    shown = section(BASELINE, SAME, INT8)
    assert shown.unchanged == ["tflite-fp16"] and list(shown.details) == ["savedmodel-fp32", "tflite-int8"]


def test_single_classes_say_little_with_few_images() -> None:
    assert "With 2.0 images of each class" in classes.notes(summary(BASELINE))[-1]
    results = summary(BASELINE)
    many = replace(results, evaluation=replace(results.evaluation, images=1000))
    assert len(classes.notes(many)) == len(classes.notes(results)) - 1


def test_flips_have_their_classes_and_their_probability() -> None:
    (flips,) = classes.flips([BASELINE, SAME, INT8], LABELS)
    assert flips.variant == "tflite-int8"
    assert [(one.name, one.images, one.lost, one.gained) for one in flips.classes] == [("tench", 4, 1, 0)]
    assert flips.words == "1 lost, 0 gained of 4 images; McNemar's p 1, after Holm 1"
