"""One engine for each batch size, or one for all of them: both are measured, and the faster form is kept."""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...contracts.conversion import ConvertJob, Scalar
from ..contract import Session
from .api import Sizes
from .options import Options
from .session import open_session

# To compare the two forms: rounds in which each has one block of calls, after one to warm up.
ROUNDS, CALLS = 10, 20
# One engine for all sizes is the simpler one, so that separate ones must be this much faster.
WORTHWHILE = 1.02
FORMS = {
    "each": "one engine for each batch size",
    "profile": "one engine with an optimization profile for all batch sizes",
}
# Median milliseconds by form and batch size.
Times = Mapping[str, Mapping[int, float]]


class Choice(NamedTuple):
    """The form to keep, why, and what was measured of both."""

    form: str
    because: str
    p50_ms: Times

    def facts(self) -> dict[str, Scalar]:
        """For the proof."""
        times = {
            f"form_p50_ms.{form}.batch{size}": ms for form, sizes in self.p50_ms.items() for size, ms in sizes.items()
        }
        return {"form": self.form, "because": self.because, **times}


def candidates(options: Options) -> list[str]:
    """The forms to build."""
    return list(FORMS) if options.engines == "auto" else [options.engines]


def ranges(form: str, batch_sizes: tuple[int, ...]) -> dict[str, Sizes]:
    """What each engine takes, by a name for it: one batch size, or all of them, tuned for the middle one."""
    if form == "each":
        return {str(size): Sizes(size, size, size) for size in batch_sizes}
    largest = batch_sizes[-1]
    return {f"1-{largest}": Sizes(1, batch_sizes[len(batch_sizes) // 2], largest)}


def choose(job: ConvertJob, options: Options, folders: Mapping[str, Path]) -> Choice:
    """The faster of the forms in these folders; the only one without measuring it."""
    if len(folders) > 1:
        return fastest(p50s(job, options, folders))
    (form,) = folders
    return Choice(form, f"{FORMS[form]}, as tensorrt.engines says", {})


def p50s(job: ConvertJob, options: Options, folders: Mapping[str, Path]) -> Times:
    """Median milliseconds of `run` by form and batch size, measured in turns so that drift hits all forms alike."""
    sessions = {form: open_session(folder, job.precision, options, None) for form, folder in folders.items()}
    by_size = {size: _medians(sessions, (size, *job.preprocessing.shape)) for size in job.batch_sizes}
    return {form: {size: medians[form] for size, medians in by_size.items()} for form in folders}


def _medians(sessions: Mapping[str, Session], shape: tuple[int, ...]) -> dict[str, float]:
    """Median milliseconds of each form on images of that shape, the batch first."""
    blocks: dict[str, list[float]] = {form: [] for form in sessions}
    for session in sessions.values():
        session.put(np.zeros(shape, np.float32))
    for lap in range(1 + ROUNDS):
        for form, session in sessions.items():
            times = _block(session)
            blocks[form] += times if lap else []  # the first warms up
    return {form: statistics.median(times) for form, times in blocks.items()}


def _block(session: Session) -> list[float]:
    """Milliseconds of a few calls."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        session.run()
        times.append((time.perf_counter() - start) * 1000)
    return times


def fastest(times: Times) -> Choice:
    """One engine, unless separate ones are worth their space over all batch sizes."""
    each, profile = times["each"], times["profile"]
    gain = statistics.geometric_mean(profile[size] / ms for size, ms in each.items())
    form = "each" if gain >= WORTHWHILE else "profile"
    pairs = ", ".join(f"{ms:.3f} against {profile[size]:.3f} ms at batch {size}" for size, ms in each.items())
    because = f"{FORMS[form]}: separate engines run {gain:.2f} times as fast as a single one ({pairs})"
    return Choice(form, because, times)
