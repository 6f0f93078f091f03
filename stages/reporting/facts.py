"""What results were measured on, as pairs of names and values in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from stages.contracts.environment import Environment, RuntimeEnvironment
from stages.contracts.row import HERE, Summary

Facts = list[tuple[str, str]]


def settings(summary: Summary) -> dict[str, Facts]:
    """By subject all that the summary knows of it."""
    return {
        "environment": environment(summary.environments[HERE]),
        "model": facts(summary.model) + [("order of the classes", summary.class_order)] * bool(summary.class_order),
        "evaluation": facts(summary.evaluation),
        "calibration": facts(summary.calibration),
    }


def environment(record: Environment) -> Facts:
    """The machine, the pipeline's libraries, and by runtime what it uses and why it cannot run in a precision."""
    runtimes = [fact for runtime in record.runtimes for fact in _runtime(runtime)]
    settings = [*facts(replace(record.settings, variables={})), *record.settings.variables.items()]
    return [*facts(record.machine), *settings, *record.base.items(), *runtimes]


def _runtime(record: RuntimeEnvironment) -> Facts:
    precisions: dict[str, list[str]] = {}
    for precision, reason in record.unavailable.items():
        if reason:
            precisions.setdefault(reason, []).append(precision)
    versions = {"python": record.python} | record.versions
    named = [(f"{record.runtime} {name.replace('_', ' ')}", version) for name, version in versions.items()]
    return named + [(f"{record.runtime} {', '.join(names)}", reason) for reason, names in precisions.items()]


def facts(record: object) -> Facts:
    """All that is known of a record under names in words, bytes in megabytes."""
    return list(_facts(msgspec.to_builtins(record), ""))


def _facts(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, (list, tuple)) and any(isinstance(one, Mapping) for one in value):
        value = {str(place): one for place, one in enumerate(value, start=1)}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _facts(inner, f"{name} {key}".strip())
    elif value is not None:
        yield name.removesuffix("_bytes").replace("_", " "), _words(value, name)


def _words(value: object, name: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value / 1e6:,.1f} MB" if name.endswith("_bytes") else f"{value:,}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or "none"
    return str(value)
