import re
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.variant import BASELINE
from stages.params import load, measurement
from stages.params.measurement import BenchmarkParams, ConvertParams, engine_batch_sizes
from tests.fixtures.params import Edit, mistakes


def test_variants_are_names_in_their_order(edit: Edit) -> None:
    assert measurement.variants()[0] == BASELINE.name
    edit(("variants", ["tflite-int8-qat", "savedmodel-fp32"]))
    assert measurement.variants() == ("tflite-int8-qat", "savedmodel-fp32")


def test_a_stage_takes_the_form_of_a_variant_and_asks_no_runtime(edit: Edit) -> None:
    edit(("variants", ["toy-fp32"]))
    assert measurement.variants() == ("toy-fp32",)
    edit(("variants", ["toy-fp32", "tflite"]))
    assert mistakes(measurement.variants) == {"variants[1]": "no-variant"}


@pytest.mark.parametrize(
    ("value", "code"),
    [([], "too-short"), ("tflite-int8", "tuple-type"), (["tflite-int8", "a-b", "tflite-int8"], "repeated")],
)
def test_variants_are_a_list_of_different_names(edit: Edit, value: Any, code: str) -> None:
    edit(("variants", value))
    assert mistakes(measurement.variants) == {"variants": code}


def test_batch_sizes_come_in_order(edit: Edit) -> None:
    edit(("benchmark.batch_sizes", [4, 1]))
    assert load.read(BenchmarkParams).batch_sizes == (1, 4)


def test_engines_are_built_for_the_evaluation_too(edit: Edit) -> None:
    edit(("benchmark.batch_sizes", [32, 1]))
    assert engine_batch_sizes(load.read(BenchmarkParams), 8) == (1, 8, 32)
    assert engine_batch_sizes(load.read(BenchmarkParams), 32) == (1, 32)


@pytest.mark.parametrize(
    ("key", "value", "wrong", "code"),
    [
        ("batch_sizes", 8, "batch_sizes", "tuple-type"),
        ("batch_sizes", [], "batch_sizes", "too-short"),
        ("batch_sizes", [8, 8], "batch_sizes", "repeated"),
        ("batch_sizes", [1, 0], "batch_sizes[1]", "greater-than-equal"),
        ("batch_sizes", [10**23], "batch_sizes[0]", "less-than-equal"),
        ("min_samples", 1, "min_samples", "greater-than-equal"),
        ("min_seconds", float("nan"), "min_seconds", "finite-number"),
        ("min_seconds", float("inf"), "min_seconds", "finite-number"),
        ("min_seconds", True, "min_seconds", "float-type"),
        ("min_seconds", 1e300, "min_seconds", "less-than-equal"),
        ("threads", 0, "threads", "greater-than-equal"),
        ("repeats", 1001, "repeats", "less-than-equal"),
        ("max_foreign_cpu", -0.01, "max_foreign_cpu", "greater-than-equal"),
        ("max_foreign_cpu", 5, "max_foreign_cpu", "less-than-equal"),
        ("max_foreign_cpu", float("nan"), "max_foreign_cpu", "finite-number"),
        ("retries", 101, "retries", "less-than-equal"),
    ],
)
def test_what_cannot_be_measured_or_could_never_end_is_refused(
    edit: Edit, key: str, value: Any, wrong: str, code: str
) -> None:
    edit((f"benchmark.{key}", value))
    assert mistakes(lambda: load.read(BenchmarkParams)) == {f"benchmark.{wrong}": code}


def test_how_quiet_it_has_to_be_may_be_left_out(checkout: Path) -> None:
    lines = load.PARAMS.read_text().splitlines()
    load.PARAMS.write_text("\n".join(line for line in lines if not re.match("  (max_foreign_cpu|retries: 1)", line)))
    found = load.read(BenchmarkParams)
    assert (found.max_foreign_cpu, found.retries) == (0.05, 1)


@pytest.mark.parametrize(("repeats", "code"), [(0, "greater-than-equal"), (101, "less-than-equal")])
def test_builds_are_repeated_1_to_100_times(edit: Edit, repeats: int, code: str) -> None:
    edit(("convert.repeats", repeats))
    assert mistakes(lambda: load.read(ConvertParams)) == {"convert.repeats": code}
