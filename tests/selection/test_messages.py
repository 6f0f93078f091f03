"""Every error of this room for a user, once: it names its place and a remedy. The sentences of a choice: test_words."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from stages.contracts.predictions import Predictions
from stages.core.errors import PipelineError
from stages.selection.budget import measured
from stages.selection.choice import paired_drop
from stages.selection.regression import Chosen, compare
from tests.fixtures.summaries import row, summary

INT8 = row("tflite-int8")
OLD = summary(INT8)
NEW = replace(OLD, model=replace(OLD.model, name="other"))
ERRORS: list[tuple[Callable[[], object], tuple[str, ...]]] = [
    (
        lambda: measured(replace(INT8, footprint=None), 1, 8),
        ("summary.json", "tflite-int8", "at batch 1 or 8", "`make repro`"),
    ),
    (lambda: measured(replace(INT8, footprint=None), 1, 1), ("at batch 1:",)),
    (lambda: paired_drop("a", "b", lambda name: Predictions([])), ("predictions of a and b", "`make repro`")),
    (lambda: compare(OLD, NEW, Chosen(None, None), lambda _: [], lambda _: []), ("tiny", "other", "one model")),
]


@pytest.mark.parametrize(("cause", "parts"), ERRORS)
def test_an_error_names_its_place_and_a_remedy(cause: Callable[[], object], parts: tuple[str, ...]) -> None:
    with pytest.raises(PipelineError) as caught:
        cause()
    print(caught.value)
    assert all(part in str(caught.value) for part in parts)
