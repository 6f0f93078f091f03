"""Every sentence that a reader of the table or of the page meets, once."""

from dataclasses import replace

import pytest

from stages.contracts.conversion import Build
from stages.contracts.row import AtChance, Doubt
from stages.reporting import decision, notes, results
from stages.reporting.training import qat_notes
from tests.reporting.rows import BASELINE, DROP, INT8, MIXED, SELECTION, accuracy, row, summary
from tests.reporting.test_notes import CONDITIONS
from tests.reporting.test_training import CURVE, LEARNED, QAT

GUESS = AtChance(2, 20, 0.5)
BUILDS = (Build(1.0, 31_000_000, "a", 0.73), Build(1.0, 30_900_000, "b", 0.78))
WON = replace(DROP, drop=-0.5, drop_ci95=(-0.648, -0.352))
LOST = replace(DROP, drop=0.5, drop_ci95=(0.352, 0.648))
DOUBTFUL = replace(INT8, gpu=CONDITIONS)
POOR = replace(LEARNED, run=replace(LEARNED.run, best_epoch=0), layers_not_simulated={"Lambda": 2})

# What each must name: the place that it is about, and what can be done where something can.
SENTENCES = [
    (notes.at_chance(GUESS), ("10.0 % of 20 images", "50.0 %", "preprocessing (scale, mean, channel order)", "labels")),
    (notes.won_back(WON, "tflite-int8"), ("won back", "50.00", "[35.20, 64.80]", "tflite-int8")),
    (notes.won_back(LOST, "tflite-int8"), ("lost", "50.00", "[35.20, 64.80]", "tflite-int8")),
    (notes.won_back(DROP, "tflite-int8"), ("cannot be told", "-25.00", "[-69.90, 36.20]", "tflite-int8")),
    (notes.builds(BUILDS), ("2 times", "p50 0.73 to 0.78 ms", "30.90 to 31.00 MB")),
    (notes.doubtful(Doubt("throttled", 3, cause="power cap"), DOUBTFUL), ("power cap", "3 of 20 blocks")),
    (notes.doubtful(Doubt("shared GPU", 2), DOUBTFUL), ("2 other processes",)),
    (notes.missing([Doubt("busy CPU", 0.48, None, 1), Doubt("busy CPU", 0.3, None, 8)]), ("batch 1 and 30 %",)),
    (notes.doubtful(Doubt("unsteady", 0.031, batch_size=8), INT8), ("batch 8", "3.1%", "at most 2.5%")),
    *((sentence, (kind,)) for kind, sentence in results.DOUBTS.items()),
    *((sentence, (".",)) for sentence in results.notes(summary(*MIXED), 1)),
    *((sentence, ("QAT",)) for sentence in qat_notes(QAT, {"QAT": CURVE})),
    *zip(
        qat_notes(replace(QAT, training=POOR), {"QAT": CURVE})[1:],
        (("epoch 0 of 2", "96 validation", "42 s", "1,200"), ("lower qat.learning_rate",), ("2 Lambda",)),
        strict=True,
    ),
    *((sentence, ("",)) for sentence in decision.limits(SELECTION)),
    (decision.guess(summary(replace(BASELINE, accuracy=replace(accuracy(), at_chance=GUESS)))) or "", ("savedmodel",)),
    (notes.notes([row("tflite-fp32", status=MIXED[3].status)], 10)[0], ("tflite-fp32", "convert")),
]  # fmt: skip


@pytest.mark.parametrize(("sentence", "names"), SENTENCES)
def test_a_sentence_names_what_it_is_about(sentence: str, names: tuple[str, ...]) -> None:
    print(sentence)
    assert [name for name in names if name not in sentence] == []
