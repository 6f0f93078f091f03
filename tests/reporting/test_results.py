from dataclasses import fields, replace

import pytest

from stages.contracts.conversion import Proof
from stages.contracts.row import Doubt, Row
from stages.contracts.selection import Judged
from stages.contracts.timing import Parts
from stages.reporting import results
from stages.reporting.results import Line, Verdict
from tests.reporting.rows import BASELINE, INT8, MIXED, SELECTION, latency, row, speed, summary


def test_every_column_is_a_field_of_a_line() -> None:
    names = {field.name for field in fields(Line)} - {"variant", "edition", "status", "chosen"}
    assert {column.field for column in results.COLUMNS} == names


def test_a_line_has_every_figure_of_its_variant() -> None:
    line = results.lines(summary(*MIXED), SELECTION)[-1]
    assert (line.variant, line.status, line.chosen) == ("tflite-int8", "ok", True)
    assert line.verdict == Verdict("good", "✓", "within", None)
    shown = {column.field: getattr(line, column.field).text for column in results.COLUMNS if column.field != "verdict"}
    assert shown == {
        "top1": "50.0", "drop": "25.00", "p50": "2.00", "p90": "3.00", "p99": "",
        "speed_up": "2.00\N{MULTIPLICATION SIGN}", "size": "2.0", "peak_memory": "300", "build": "1.5",
    }  # fmt: skip
    assert (line.p50.interval, line.p90.interval) == ("[1.50,\N{NO-BREAK SPACE}2.50]", "")


def test_a_variant_that_did_not_run_has_empty_cells() -> None:
    line = results.lines(summary(*MIXED), SELECTION)[1]
    assert (line.status, line.verdict.word) == ("skipped", None)
    assert {getattr(line, column.field) for column in results.COLUMNS if column.field != "verdict"} == {("", "")}


def test_a_line_of_another_lock_names_its_version() -> None:
    rows = [row("onnxruntime_1_23-int8"), row("onnxruntime-int8")]
    assert [line.edition for line in results.lines(summary(*rows), SELECTION)] == ["onnxruntime 1.23", ""]


@pytest.mark.parametrize(
    ("word", "tone"), [("within", "good"), ("exceeds", "bad"), ("cannot tell", "unsure"), (None, "")]
)
def test_a_verdict_has_its_tone_and_what_would_tell(word: str | None, tone: str) -> None:
    verdict = results.verdict(Judged(True, word, 1200, None))  # type: ignore[arg-type]
    assert (verdict.tone, verdict.word, verdict.needed) == (tone, word, 1200)


def quoted(row: Row, samples: int, p90: float | None, p99: float | None) -> Row:
    """The same with so many calls."""
    timed = replace(latency(4.0), samples=samples, p90_ms=p90, p99_ms=p99, p50_ci95_ms=(3.0, 5.0))
    return replace(row, speeds=(replace(speed(4.0), latency=timed),))


def about(words: list[str], *starts: str) -> list[str]:
    """Those of the notes that begin so."""
    return [word for word in words if word.startswith(starts)]


def test_notes_say_from_how_many_calls_a_percentile_is_quoted() -> None:
    few = quoted(BASELINE, 50, None, None), quoted(INT8, 100, 5.0, None)
    assert about(results.notes(summary(*few), 1), "p9") == [
        "p90 is quoted from 64 calls on; there are 50.",
        "p99 is quoted from 662 calls on; there are 50 to 100.",
    ]
    assert about(results.notes(summary(quoted(BASELINE, 1000, 5.0, 6.0)), 1), "p9") == []


def test_notes_explain_only_what_the_table_shows() -> None:
    shown = results.notes(summary(*MIXED), 1)
    assert about(shown, "Drop") and not about(shown, "savedmodel-fp32 was", "A question mark", *results.DOUBTS)
    alone = results.notes(summary(quoted(row("tflite-fp32"), 100, 5.0, None)), 1)
    assert about(alone, "savedmodel-fp32 was not measured") and not about(alone, "Drop")
    open_ended = replace(speed(4.0), latency=replace(latency(4.0), p50_ci95_ms=(3.0, None)))
    doubtful = replace(BASELINE, speeds=(open_ended,), doubts=(Doubt("unsteady", 0.03, batch_size=1),))
    assert len(about(results.notes(summary(doubtful), 1), "A question mark", "unsteady")) == 2


def test_a_gpus_time_is_split_where_its_clock_tells() -> None:
    proof = Proof("engine_layers", {}, {"options.cuda_graph": True, "options.pinned": False})
    timed = row("tensorrt-fp16", 2.0, proof=proof, speeds=(speed(2.0, 1, Parts(0.25, 1.5, 0.01)),))
    (line,) = results.times_by_part([BASELINE, timed])
    assert (line.variant, line.options, line.batch_size) == ("tensorrt-fp16", "CUDA graph", 1)
    assert line.cells == ["0.250", "1.500", "0.010", "1.240", "3.000"]
