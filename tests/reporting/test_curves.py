import re

from stages.reporting import curves
from tests.reporting.reader import Reader

CURVES = {
    "seed 0": [{"epoch": float(i), "loss": 2 / i, "val_loss": loss} for i, loss in ((1, 1.2), (2, 0.31), (3, 0.4))],
    "QAT": [{"epoch": 0.0, "val_loss": 0.35}, {"epoch": 1.0, "loss": 0.5, "val_loss": 0.36}],
}


def test_the_best_epoch_is_that_of_the_lowest_loss_on_validation_images() -> None:
    assert [curves.best(curve) for curve in CURVES.values()] == [1, 0]


def test_curves_are_told_in_words() -> None:
    assert Reader(curves.chart(CURVES)).texts("desc") == [
        "seed 0: loss on the validation images 1.2 after epoch 1, lowest 0.31 after epoch 2 of 3; "
        "QAT: loss on the validation images 0.35 after epoch 0, lowest 0.35 after epoch 0 of 1."
    ]


def test_a_curve_has_whole_epochs_a_dashed_line_and_its_mark_at_the_best_one() -> None:
    chart = curves.chart(CURVES) or ""
    assert "0 1 2 3 epoch" in " ".join(Reader(chart).texts("text"))
    assert chart.count("stroke-dasharray") == len(CURVES)
    ticks, marks = (re.findall(rf'<use [^>]*x="([\d.]+)"[^>]*fill: var\(--{of}', chart) for of in ("rule", "series"))
    assert marks[: len(CURVES)] == [ticks[2], ticks[0]]


def test_a_training_of_one_epoch_can_be_drawn_and_none_has_no_chart() -> None:
    assert curves.chart({"seed 0": [{"epoch": 1.0, "loss": 0.7, "val_loss": 0.6}]})
    assert curves.chart({}) is None
