"""`make check UPGRADE=OLD:NEW`: whether a newer library is worse than the one beside it; the exit status says it."""

from stages.commands import results
from stages.commands.check import predictions_of, told
from stages.commands.outcome import current_choice
from stages.contracts import codec
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.variant import runtime_of
from stages.core.errors import PipelineError
from stages.core.shown import say
from stages.reporting import table
from stages.runtimes import registry
from stages.selection import upgrade
from stages.selection.choice import void
from stages.selection.regression import Verdict
from stages.selection.upgrade import Upgrade


def check(names: str) -> int:
    """Compare two editions of a runtime, written OLD:NEW, as the last run measured them; returns the exit status."""
    wanted = parse(names)
    with results.last() as excuse:
        current_choice(excused=bool(excuse))
        return _check(wanted, codec.read(Summary, SUMMARY))


def parse(names: str) -> Upgrade:
    """PipelineError for what is no two editions of one runtime."""
    old, _, new = names.partition(":")
    there = [name for name in registry.editions() if runtime_of(name) == runtime_of(new or old)]
    if old == new or not {old, new} <= {*there}:
        several = [name for name in registry.editions() if _has_more(name)]
        raise PipelineError(
            f"UPGRADE is {names!r}: name two of one runtime, such as UPGRADE=onnxruntime_1_23:onnxruntime; those there "
            f"are: {', '.join(several)}",
            code="no-upgrade",
            upgrade=names,
        )
    return Upgrade(old, new)


def _has_more(edition: str) -> bool:
    return sum(runtime_of(name) == runtime_of(edition) for name in registry.editions()) > 1


def _check(wanted: Upgrade, summary: Summary) -> int:
    say(table.title(summary))
    verdict = upgrade.compare(summary, wanted, predictions_of)
    verdict += Verdict(unknown=tuple(filter(None, [void(summary)])))
    fine = f"From {wanted.words} nothing that was compared is worse beyond noise." if verdict.notes else ""
    return told(verdict, f"Worse from {wanted.words}", fine)
