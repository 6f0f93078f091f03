from dataclasses import replace
from pathlib import Path

from stages.contracts.status import OK, Status
from stages.contracts.training import CURVES, QAT_CURVE, QatRecord, QatTraining, Run, Training
from stages.reporting import training
from stages.training.curves import write_curves
from tests.fixtures.records import PREPARED, TINY
from tests.reporting.rows import BASELINE, DROP, INT8, accuracy, row, summary

RUN = Run(seed=3, best_epoch=1, best_val_loss=0.25, best_val_accuracy=0.9375, train_s=41.6)
LEARNED = QatTraining(RUN, 0.875, 1200, 96, {})
QAT = QatRecord(OK, "d" * 64, LEARNED)
CURVE = [{"seed": 3.0, "epoch": float(i), "val_loss": loss} for i, loss in ((0, 0.5), (1, 0.25), (2, 0.375))]
# The images that INT8 lost are won back.
WON = replace(DROP, lost=0, gained=1, drop=-0.25, drop_ci95=(-0.7, 0.4), mcnemar_p=0.0213)
AGAIN = row("tflite-int8-qat", 2.5, accuracy=replace(accuracy(4), change_from_int8=WON))
NOTHING = ("", "")


def test_fp32_and_int8_without_and_with_training_stand_side_by_side() -> None:
    (line,) = training.lines([BASELINE, INT8, AGAIN], 1)
    assert (line.runtime, line.fp32) == ("tflite", "savedmodel-fp32")
    assert len(line.cells) == len(training.COLUMNS)
    assert [cell.text for cell in line.cells] == [
        "75.0", "50.0", "100.0", "+25.00", "0.021", "2.000 / 2.500", "2.00 / 2.00",
    ]  # fmt: skip
    assert line.cells[3].interval.replace("\N{NO-BREAK SPACE}", " ") == "[\N{MINUS SIGN}40.00, 70.00]"


def test_a_runtimes_own_fp32_stands_beside_its_int8() -> None:
    (line,) = training.lines([BASELINE, row("tflite-fp32"), INT8, AGAIN], 1)
    assert line.fp32 == "tflite-fp32"


def test_variants_that_were_not_evaluated_leave_their_cells_empty() -> None:
    (line,) = training.lines([replace(AGAIN, accuracy=None)], 1)
    assert line.fp32 is None and list(line.cells[:5]) == [NOTHING] * 5
    assert [cell.text for cell in line.cells[5:]] == ["\N{EN DASH} / 2.500", "\N{EN DASH} / 2.00"]


def test_every_training_has_its_curve(checkout: Path) -> None:
    seeds = [replace(RUN, seed=seed) for seed in (0, 1)]
    write_curves([{**epoch, "seed": seed} for seed in (0, 1) for epoch in CURVE], CURVES)
    write_curves(CURVE, QAT_CURVE)
    trained = replace(TINY, training=Training("mobilenet", 0, 1200, 96, PREPARED, tuple(seeds)))
    curves = training.read_curves(replace(summary(), model=trained, qat=QAT))
    assert {name: len(curve) for name, curve in curves.items()} == {"seed 0": 3, "seed 1": 3, "QAT": 3}


def test_training_that_did_not_happen_has_its_reason_and_no_curve() -> None:
    failed = QatRecord(Status("failed", "qat: its loss is not finite"), None)
    section = training.section(replace(summary(BASELINE, AGAIN), qat=failed), {}, 1)
    assert section and section.chart is None
    assert section.notes[1:] == ["QAT failed: its loss is not finite."]


def test_without_training_there_is_no_section_and_without_qat_no_table() -> None:
    assert training.section(summary(BASELINE, INT8), {}, 1) is None
    section = training.section(summary(BASELINE, INT8), {"seed 0": CURVE}, 1)
    assert section and section.chart and not section.lines and not section.notes


def test_what_could_not_be_simulated_or_learned_is_told() -> None:
    assert len(training.qat_notes(QAT, {"QAT": CURVE})) == 2
    poor = replace(LEARNED, run=replace(RUN, best_epoch=0), layers_not_simulated={"Lambda": 2, "Softmax": 1})
    *_, useless, left = training.qat_notes(replace(QAT, training=poor), {"QAT": CURVE})
    assert "qat.learning_rate" in useless and left.endswith(": 2 Lambda, 1 Softmax.")
