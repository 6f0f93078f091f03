"""Checkouts with results of which pages are made; a page is drawn once where several tests look at it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import report
from stages.contracts import codec, labels, predictions
from stages.contracts.evaluation import predictions_path
from stages.contracts.images import EVALUATION, IMAGES, ImageSet, ImagesRecord
from stages.contracts.labels import Labels
from stages.contracts.row import SUMMARY
from stages.contracts.selection import SELECTION, Selection
from stages.contracts.status import Status
from stages.core import files
from stages.params.load import PARAMS
from stages.reporting import svg
from stages.reporting.report_data import PAGE
from stages.statistics import summary
from stages.statistics.per_class import CLASSES, ClassReport
from tests.fixtures.records import SETS, Results
from tests.reporting.reader import Reader
from tests.reporting.rows import SELECTION as CHOSEN

REPOSITORY = Path(__file__).parents[2]
NAMES = ("tench", "cats & <dogs>", "crane", "hen", "ox", "owl", "ram", "cod", "elk", "bee")
MIXED = ("savedmodel-fp32", "tftrt-fp32", "tftrt-int8", "tflite-fp32", "tflite-int8")
# Three classes of ten images.
TRUTH = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
SEVERAL = ("savedmodel-fp32", "tflite-fp16", "tflite-int8")
Drawing = Callable[..., str]


def write_page(names: tuple[str, ...], selection: Selection = CHOSEN) -> Reader:
    """Run the stages `summarize` and `report` on what there is."""
    figures = summary.build(names)
    codec.write(figures, SUMMARY)
    for row in figures.here:
        if row.accuracy:
            answers = predictions.read(predictions_path(row.name))
            ClassReport.from_predictions(answers).write(CLASSES, row.name, labels.read())
    codec.write(selection, SELECTION)
    report.main()
    return Reader(PAGE.read_text(encoding="utf-8"))


def prepare() -> Results:
    """Params, class names, images and all records but those of the variants; the last image cannot be read."""
    shutil.copy(REPOSITORY / PARAMS, PARAMS)
    labels.write(Labels(NAMES, tuple(f"n{i:08}" for i in range(len(NAMES)))))
    EVALUATION.mkdir(parents=True)
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 24, 3), np.uint8)
        Image.fromarray(pixels).save(EVALUATION / f"{i}.jpg")
    files.write_text(EVALUATION / "3.jpg", "no image")
    return Results()


def run_mixed(results: Results) -> tuple[str, ...]:
    """Two variants that ran, two that were skipped for one reason, one that failed."""
    results.ok("savedmodel-fp32", [0, 0, 0, 1], 4.0)
    results.ok("tflite-int8", [0, 0, 1, 1], 2.0)
    for name in ("tftrt-fp32", "tftrt-int8"):
        results.stopped(name, Status("skipped", "no NVIDIA GPU"))
    results.stopped("tflite-fp32", Status("failed", "no memory"))
    return MIXED


def run_several(results: Results) -> tuple[str, ...]:
    """Three classes: INT8 loses two images of the first to the second, and FP16 changes nothing."""
    evaluation = ImageSet("sample", len(TRUTH), "e" * 64, classes=3)
    codec.write(ImagesRecord(evaluation, SETS.calibration), IMAGES)
    results.ok("savedmodel-fp32", [0, 0, 0, 1, 1, 0, 2, 2, 2, 9], 4.0, TRUTH)
    results.ok("tflite-fp16", [0, 0, 0, 1, 1, 0, 2, 2, 2, 9], 3.0, TRUTH)
    results.ok("tflite-int8", [0, 1, 1, 1, 1, 1, 2, 2, 2, 9], 2.0, TRUTH)
    return SEVERAL


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """The current folder for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The page of `run_mixed`."""
    with inside(tmp_path_factory.mktemp("mixed")):
        return write_page(run_mixed(prepare()))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The page of `run_several`."""
    with inside(tmp_path_factory.mktemp("several")):
        return write_page(run_several(prepare()))


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """A checkout of this test's own."""
    monkeypatch.chdir(tmp_path)
    return prepare()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts without a picture, for a page whose text alone is looked at: drawing takes seconds."""

    def draw(name: str, title: str, words: list[str], *_: object) -> str:
        return svg.inline('<svg viewBox="0 0 1 1"></svg>', name, title, "; ".join(words) + ".")

    monkeypatch.setattr(svg, "draw", draw)
