"""One run's raw records give the figures that the pipeline made of them when they were committed, to six digits.

The records were read once into their present form. Where the first form had a value of one process alone (loading,
first calls) or the largest of all (memory), every repeat here has it.
"""

import csv
import lzma
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.row import Accuracy, Change, Row, Speed, Summary
from stages.contracts.selection import Selection
from stages.contracts.timing import SAMPLES
from stages.params import load, measurement
from stages.params.choice import Budget, SelectParams
from stages.params.measurement import BenchmarkParams
from stages.reporting import table
from stages.selection import choice, record
from stages.statistics import summary

GOLDEN = Path(__file__).parent
AVERAGES = ("macro_precision", "macro_recall", "macro_f1", "weighted_f1", "ece")
Figures = Iterator[tuple[str, Any]]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Summary, Selection]]:
    checkout = tmp_path_factory.mktemp("golden") / "checkout"
    shutil.copytree(GOLDEN / "records", checkout)
    with lzma.open(checkout / f"{SAMPLES}.xz") as packed, (checkout / SAMPLES).open("wb") as samples:
        shutil.copyfileobj(packed, samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        made = summary.build(measurement.variants())
        question = choice.ask(load.read(SelectParams), load.read(Budget), load.read(BenchmarkParams).batch_sizes)
        yield made, record.select(made, question, load.digest())


def figures(made: Summary, selection: Selection) -> Figures:
    for row in made.rows:
        for name, value in of_row(row):
            yield f"{row.name} {name}", value
    for name in ("winner", "rivals", "pareto", "objective", "batch_size", "outcome"):
        yield f"selection {name}", getattr(selection, name)
    for variant, judged in selection.variants.items():
        for name in ("eligible", "verdict", "images_needed"):
            yield f"selection {variant}.{name}", getattr(judged, name)


def of_row(row: Row) -> Figures:
    yield "status", row.status.state
    yield "load_ms", row.load_ms
    yield "convert_s", row.conversion and row.conversion.seconds
    yield "size_bytes", row.size_bytes
    yield "peak_memory_bytes", row.footprint and row.footprint.peak_memory_bytes
    yield "first_inference_ms", row.speeds[0].first_inference_ms if row.speeds else None
    if row.accuracy:
        yield from of_accuracy(row.accuracy)
    for speed in row.speeds:
        yield from of_speed(speed)
    for i, build in enumerate(row.conversion.builds if row.conversion else ()):
        for name in ("convert_s", "size_bytes", "p50_ms"):
            yield f"build{i}.{name}", getattr(build, name)


def of_accuracy(accuracy: Accuracy) -> Figures:
    for name in ("top1", "top5"):
        yield name, getattr(accuracy, name).value
        yield f"{name}_ci95", getattr(accuracy, name).ci95
    yield "agreement", accuracy.agreement
    for name in AVERAGES:
        yield name, getattr(accuracy.averages, name)
    for name in ("change", "change_from_int8"):
        yield from of_change(name, getattr(accuracy, name))


def of_change(prefix: str, change: Change | None) -> Figures:
    for field in fields(change) if change else ():
        if field.name != "classes":
            yield f"{prefix}.{field.name}", getattr(change, field.name)
    for each in change.classes if change else ():
        for name in ("images", "lost", "gained"):
            yield f"{prefix}.class{each.label}.{name}", getattr(each, name)


def of_speed(speed: Speed) -> Figures:
    for term in ("latency", "latency_host"):
        for name, value in asdict(getattr(speed, term)).items():
            yield f"{term}.batch{speed.batch_size}.{name}", value


def flat(all_figures: Figures) -> Figures:
    """Without those that are None, and each element of a list by itself."""
    for name, value in all_figures:
        if isinstance(value, tuple):
            yield from flat((f"{name}.{i}", element) for i, element in enumerate(value))
        elif value is not None:
            yield name, value


def same(value: Any, written: str) -> bool:
    if isinstance(value, float):
        # Half a unit of the sixth digit.
        return math.isclose(value, float(written), rel_tol=5e-6, abs_tol=1e-12)
    return str(value).lower() == written.lower()


def test_every_figure_is_the_same_to_six_digits(golden: tuple[Summary, Selection]) -> None:
    with (GOLDEN / "figures.csv").open(encoding="utf-8", newline="") as file:
        written = {line["figure"]: line["value"] for line in csv.DictReader(file)}
    made = dict(flat(figures(*golden)))
    assert made.keys() == written.keys()
    assert len(made) == 968
    different = {name: (value, written[name]) for name, value in made.items() if not same(value, written[name])}
    assert different == {}


def table_cells(markdown: str) -> list[list[str]]:
    """The cells of each line of each table, but for its header and rule."""
    body: list[list[str]] = []
    for line in markdown.splitlines():
        if set(line) == set("|-:"):
            body.pop()
        elif line.startswith("|"):
            body.append([cell.strip() for cell in line.strip("|").split("|")])
    return body


def numbers(markdown: str) -> list[list[str]]:
    """Those in each sentence below the tables, in their order; units and all words aside."""
    sentences = [line for line in markdown.splitlines() if line.startswith("- ")]
    return [re.findall(r"[-+]?\d+(?:\.\d+)?", sentence) for sentence in sentences]


def test_the_table_is_the_same_but_for_words(golden: tuple[Summary, Selection]) -> None:
    written, made = (GOLDEN / "summary.md").read_text(encoding="utf-8"), table.markdown(golden[0])
    assert table_cells(made) == table_cells(written)
    assert len(table_cells(made)) == 15 + 9
    assert numbers(made) == numbers(written)
