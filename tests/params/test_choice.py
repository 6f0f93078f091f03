from pathlib import Path
from typing import Any

import pytest

from stages.params import load
from stages.params.choice import Budget, SelectParams
from tests.fixtures.params import Edit, mistakes


def test_the_shipped_file_sets_no_limit(checkout: Path) -> None:
    assert load.read(Budget) == Budget(None, None, None, None, None)
    assert load.read(SelectParams) == SelectParams("latency", None)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("max_top1_drop", 1, "no-share"),
        ("max_top1_drop", -0.01, "no-share"),
        ("max_p99_ms", 0, "greater-than"),
        ("max_p99_ms", float("inf"), "finite-number"),
        ("p99_batch_size", 0, "greater-than-equal"),
        ("max_size_bytes", 0, "greater-than-equal"),
        ("max_peak_memory_bytes", 1.5, "int-type"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(edit: Edit, key: str, value: Any, code: str) -> None:
    edit((f"budget.{key}", value))
    assert mistakes(lambda: load.read(Budget)) == {f"budget.{key}": code}


def test_an_unknown_objective_is_refused(edit: Edit) -> None:
    edit(("select.objective", "speed"))
    assert mistakes(lambda: load.read(SelectParams)) == {"select.objective": "literal-error"}
