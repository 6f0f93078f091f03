from dataclasses import replace

import pytest

from stages.contracts.row import AtChance
from stages.contracts.selection import Judged, Limits, NearestMiss, Selection
from stages.reporting import decision
from tests.reporting.rows import BASELINE, INT8, MIXED, SELECTION, accuracy, summary

NEAREST = NearestMiss("tflite-int8", "its drop")
TELLS_NOT = replace(SELECTION, outcome="cannot tell")
NO_BUDGET = Limits(None, None, 1, None, None)
NOTHING = replace(SELECTION, outcome="nothing within budget", winner=None)


@pytest.mark.parametrize(
    ("selection", "heading"),
    [
        (SELECTION, "tflite-int8 in figures"),
        (TELLS_NOT, "Known to be within budget: tflite-int8"),
        (replace(TELLS_NOT, budget=NO_BUDGET), "Best figure: tflite-int8"),
        (replace(TELLS_NOT, winner=None), None),
        (replace(NOTHING, nearest_miss=NEAREST), "Nearest to the budget: tflite-int8, its drop"),
        (NOTHING, None),
    ],
)
def test_no_decision_is_told_as_one(selection: Selection, heading: str | None) -> None:
    best = decision.best(summary(*MIXED), selection)
    assert (best.heading if best else None) == heading


@pytest.mark.parametrize(
    ("selection", "mark"),
    [(SELECTION, "chosen"), (TELLS_NOT, "within budget"), (replace(TELLS_NOT, budget=NO_BUDGET), "best figure")],
)
def test_the_winner_is_marked_as_what_it_is(selection: Selection, mark: str) -> None:
    assert selection.mark == mark


def test_the_figures_that_matter_stand_beside_the_baselines() -> None:
    cards = decision.cards(INT8, BASELINE, 1)
    assert [(card.name, card.figure.text, card.unit) for card in cards] == [
        ("Top-1 accuracy", "50.0", "%"),
        ("p50 latency, batch 1", "2.00", "ms"),
        ("Size on disk", "2.0", "MB"),
        ("Peak memory", "300", "MB"),
    ]
    beside = [card.beside.replace("\N{NO-BREAK SPACE}", " ") for card in cards]
    assert beside == [
        "drop 25.00 points [\N{MINUS SIGN}36.20, 69.90]",
        "2.00\N{MULTIPLICATION SIGN} as fast as savedmodel-fp32, 4.00 ms",
        "100 % of savedmodel-fp32, 2.0 MB",
        "100 % of savedmodel-fp32, 300 MB",
    ]


def test_the_baseline_is_not_compared_with_itself() -> None:
    assert {card.beside for card in decision.cards(BASELINE, BASELINE, 1)} == {""}
    assert {card.beside for card in decision.cards(replace(INT8, accuracy=accuracy()), None, 1)} == {""}


def test_a_figure_that_is_not_known_has_no_card() -> None:
    cards = decision.cards(replace(INT8, footprint=None, accuracy=None), BASELINE, 1)
    assert [card.name for card in cards] == ["p50 latency, batch 1", "Size on disk"]


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (NO_BUDGET, []),
        (Limits(0.01, None, 1, None, None), ["top-1 drop at most 1 point"]),
        (
            Limits(0.025, 5.0, 8, 1_500_000, 300_000_000),
            [
                "top-1 drop at most 2.5 points",
                "p99 at batch 8 at most 5 ms",
                "size at most 1.5 MB",
                "peak memory at most 300 MB",
            ],
        ),
    ],
)
def test_every_limit_is_told_with_its_unit(budget: Limits, words: list[str]) -> None:
    objective, *limits = decision.limits(replace(SELECTION, budget=budget))
    assert objective == "Objective: the lowest p50 latency at batch 1" and limits == words


def test_every_loser_has_its_reason_and_like_ones_share_it() -> None:
    assert decision.losers(MIXED, SELECTION) == [
        ("4 ms against the 2 ms of tflite-int8", ["savedmodel-fp32"]),
        ("no NVIDIA GPU", ["tftrt-fp32", "tftrt-int8"]),
        ("convert: no memory", ["tflite-fp32"]),
    ]
    assert decision.losers([INT8], SELECTION) == []
    silent = replace(SELECTION, winner=None, variants={"tflite-int8": Judged(True, None, None, None)})
    assert decision.losers([INT8], silent) == [("No reason is on record.", ["tflite-int8"])]


def test_only_a_baseline_at_chance_is_warned_of() -> None:
    guessing = replace(BASELINE, accuracy=replace(accuracy(), at_chance=AtChance(2, 20, 0.5)))
    assert decision.guess(summary(*MIXED)) is decision.guess(summary(INT8)) is None
    assert (decision.guess(summary(guessing)) or "").startswith("savedmodel-fp32 is no better than chance")
