"""Every sentence of the commands, once: it names its place and a remedy."""

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.commands import dependencies, outcome, predict, revision, run
from stages.commands.lock import LOCK, exclusive
from stages.contracts import codec
from stages.contracts.conversion import MANIFEST, Manifest, folder
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Limits, Selection
from stages.contracts.status import OK
from stages.contracts.variant import BASELINE
from stages.core.errors import PipelineError
from stages.params.load import PARAMS
from tests.fixtures.errors import assert_helps, refused


def no_engine_line() -> PipelineError:
    PARAMS.write_text("execution: {engine: local}\n")
    return refused(run.set_engine, "ray")


def busy() -> PipelineError:
    with exclusive():
        return refused(exclusive().__enter__)


def linked() -> PipelineError:
    LOCK.symlink_to("params.yaml")
    return refused(exclusive().__enter__)


def no_results() -> PipelineError:
    return refused(outcome.current_choice)


def params_changed() -> PipelineError:
    limits = Limits(None, None, 1, None, None)
    codec.write(Selection("0", "size", 1, limits, "selected", "Ship it.", "a", (), None, (), {}), SELECTION)
    SUMMARY.write_text("{}")
    return refused(outcome.current_choice)


def no_revision() -> PipelineError:
    return refused(revision.record_at, Summary, "v9", SUMMARY)


def unreadable(monkeypatch: pytest.MonkeyPatch) -> PipelineError:
    monkeypatch.setattr(revision, "git", lambda *_: '{"schema": 0}')
    return refused(revision.record_at, Summary, "v1", SUMMARY)


def unknown_variant() -> PipelineError:
    return refused(predict.converted, "tflite-int4")


def nothing_converted() -> PipelineError:
    return refused(predict.converted, None)


def not_converted() -> PipelineError:
    codec.write(Manifest(BASELINE, OK, {"tf32": True}), folder(BASELINE.name) / MANIFEST)
    return refused(predict.converted, "tflite-int8")


def other_dependencies(monkeypatch: pytest.MonkeyPatch) -> PipelineError:
    Path("dvc.yaml").write_text("stages:")
    monkeypatch.setattr(dependencies, "written", lambda text: f"{text} others")
    return refused(dependencies.main, True)


@pytest.mark.parametrize(
    ("make", "code", "place"),
    [
        (no_engine_line, "no-engine-line", "params.yaml"),
        (busy, "checkout-busy", "this checkout"),
        (linked, "lock-link", str(LOCK)),
        (no_results, "no-results", "results"),
        (params_changed, "params-changed", "reports/selection.json"),
        (no_revision, "no-such-revision", "v9"),
        (unreadable, "revision-unreadable", "reports/summary.json at v1"),
        (unknown_variant, "unknown-variant", "tflite-int4"),
        (nothing_converted, "nothing-converted", "variant"),
        (not_converted, "not-converted", "tflite-int8"),
        (other_dependencies, "other-dependencies", "dvc.yaml"),
    ],
)
def test_each_sentence_names_its_place_and_a_remedy(
    make: Callable[..., PipelineError], code: str, place: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = make(monkeypatch) if make.__code__.co_argcount else make()
    assert error.code == code
    assert_helps(error, place)
