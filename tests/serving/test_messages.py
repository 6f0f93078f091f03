"""Every sentence of serving, once: it names its place and a remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.contracts import codec
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.core import files
from stages.core.errors import PipelineError
from stages.runtimes import registry
from stages.serving import export, package
from stages.serving.winner import Winner
from tests.fixtures.errors import assert_helps, refused
from tests.fixtures.variants import with_fact

Choose = Callable[..., Path]
EXPORT = Path("export")


def no_choice(choose: Choose, summarize: Callable[[], None]) -> PipelineError:
    choose("tflite-fp32", ("budget.max_size_bytes", 1))
    return refused(export.write, EXPORT)


def no_server(choose: Choose, summarize: Callable[[], None]) -> PipelineError:
    choose("tensorrt-fp16")
    with_fact("tensorrt-fp16", "tensorrt", "TensorRT-RTX 1.7.1")
    summarize()
    return refused(export.write, EXPORT)


def not_measured(choose: Choose, summarize: Callable[[], None]) -> PipelineError:
    files.write_text(choose("tflite-fp32") / "model.tflite", "another")
    return refused(export.write, EXPORT)


def no_export(choose: Choose, summarize: Callable[[], None]) -> PipelineError:
    choose("tflite-fp32")
    files.write_text(EXPORT / "thesis.txt", "years of work")
    return refused(export.write, EXPORT)


def not_written(choose: Choose, summarize: Callable[[], None]) -> PipelineError:
    choose("tflite-fp32")
    Path("file").write_text("mine")
    return refused(export.write, Path("file/export"))


def winner_unknown(choose: Choose, summarize: Callable[[], None]) -> PipelineError:
    choose("tflite-fp32")
    chosen, summary = codec.read(Selection, SELECTION), codec.read(Summary, SUMMARY)
    empty = Summary(summary.model, summary.environments, summary.evaluation, summary.calibration, None, ())
    return refused(Winner.of, chosen, empty)


def elsewhere(choose: Choose, summarize: Callable[[], None]) -> PipelineError:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.RUNTIMES, "toy", "tests.fixtures.toy")
        return refused(package.write_code, "toy", Path("served"))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("make", "code", "place"),
    [
        (no_choice, "no-choice", "nothing within budget"),
        (no_server, "no-server", "TensorRT-RTX 1.7.1"),
        (not_measured, "not-measured", "models/tflite-fp32"),
        (no_export, "no-export", "/export"),
        (not_written, "export-not-written", "/file/export"),
        (elsewhere, "runtime-elsewhere", "tests.fixtures.toy"),
        (winner_unknown, "winner-unknown", "tflite-fp32"),
    ],
)
def test_a_sentence_names_its_place_and_a_remedy(
    choose: Choose,
    summarize: Callable[[], None],
    make: Callable[[Choose, Callable[[], None]], PipelineError],
    code: str,
    place: str,
) -> None:
    error = make(choose, summarize)
    assert error.code == code
    assert_helps(error, place)
