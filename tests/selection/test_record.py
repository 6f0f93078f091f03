from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from stages import select, summarize
from stages.contracts import codec, labels
from stages.contracts.environment import OTHER_GPUS
from stages.contracts.labels import Labels
from stages.contracts.row import HERE
from stages.contracts.selection import SELECTION, Judged, Limits, NearestMiss, Selection
from stages.contracts.status import Status
from stages.params import load
from stages.selection import record
from stages.selection.choice import Question
from tests.fixtures.records import GPU_MACHINE, Results, environment
from tests.fixtures.summaries import change, latency, row, stopped, summary

BASELINE, FP32, INT8 = NAMES = "savedmodel-fp32", "tflite-fp32", "tflite-int8"
QUESTION = Question("latency", 1, Limits(None, None, 1, None, None))


def test_facts_and_sentences_of_every_variant() -> None:
    rows = (
        row(BASELINE, latencies={1: latency(4)}),
        row(INT8, latencies={1: latency(2)}),
        stopped("tftrt-fp32", Status("skipped", "no NVIDIA GPU")),
    )
    found = record.select(summary(*rows), QUESTION, "d" * 16)
    assert (found.params, found.objective, found.batch_size, found.budget) == ("d" * 16, "latency", 1, QUESTION.limits)
    assert (found.outcome, found.winner, found.rivals, found.nearest_miss) == ("selected", INT8, (), None)
    assert found.headline == f"Ship {INT8}"
    assert found.variants[INT8] == Judged(True, None, None, None)
    assert found.variants[BASELINE] == replace(found.variants[INT8], reason=found.variants[BASELINE].reason)
    assert found.variants["tftrt-fp32"] == Judged(False, None, None, "skipped: no NVIDIA GPU")


def test_what_the_images_tell_of_a_drop_is_there() -> None:
    question = replace(QUESTION, limits=replace(QUESTION.limits, max_top1_drop=0.01))
    found = record.select(summary(row(INT8, change=change(0, 0, 20))), question, "")
    assert found.variants[INT8] == replace(
        found.variants[INT8], eligible=False, verdict="cannot tell", images_needed=780
    )


def test_the_nearest_miss_comes_with_its_reason() -> None:
    question = replace(QUESTION, limits=replace(QUESTION.limits, max_size_bytes=1_900_000))
    found = record.select(summary(row(INT8)), question, "")
    assert found.nearest_miss == NearestMiss(INT8, "size on disk of 2.0 MB exceeds 1.9")
    assert record.select(summary(), QUESTION, "").nearest_miss is None


def test_rows_of_other_devices_are_not_chosen_from() -> None:
    here, away = row(BASELINE, latencies={1: latency(4)}), row(INT8, latencies={1: latency(2)})
    made = summary(here, replace(away, device="T4"))
    made = replace(made, environments={HERE: made.environments[HERE], "T4": environment(GPU_MACHINE)})
    found = record.select(made, QUESTION, "")
    assert (found.winner, list(found.variants)) == (BASELINE, [BASELINE])


def test_a_selection_is_read_as_it_was_written() -> None:
    found = record.select(summary(row(BASELINE), row(INT8)), QUESTION, "d" * 16)
    assert codec.decode(Selection, codec.encode(found, "selection"), "selection") == found


def test_the_stages_write_summary_and_selection(checkout: Path, edit: Callable[..., None]) -> None:
    edit(("variants", list(NAMES)))
    results = Results()
    for name, p50 in zip(NAMES, (4.0, 3.0, 2.0), strict=True):
        results.ok(name, [0, 0, 0, 1], p50)
    results.copy_to(OTHER_GPUS / "T4", GPU_MACHINE)
    labels.write(Labels.from_names(("tench", "cock")))
    summarize.main()
    select.main()
    found = codec.read(Selection, SELECTION)
    assert (found.winner, found.params, list(found.variants)) == (INT8, load.digest(), list(NAMES))
