"""Inputs that once gave a wrong figure or no table, each in a whole run of its own: `make test-cases`, half an hour."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stages.contracts.row import Row
from tests.pipeline.project import ROOT, Project, bare, commit

CASES = ROOT.parent / "shared/cases"
pytestmark = pytest.mark.cases


@dataclass(frozen=True)
class Case:
    """A folder of cases, what is changed in its params, and how its run must end.

    `right` are the rows that must have this top-1, or what the model's own framework measures where it is None;
    `failed` are rows that must have failed, with words of their reason. `refused` is what a run without a table says.
    """

    name: str
    kind: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    images: int | None = None
    right: Mapping[str, float | None] = field(default_factory=dict)
    failed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    says: tuple[str, ...] = ()


SAVED, LITE, HALF, LITE8, ONNX, ONNX8 = (
    *("savedmodel-fp32", "tflite-fp32", "tflite-fp16", "tflite-int8"),
    *("onnxruntime-fp32", "onnxruntime-int8"),
)
BOTH = {SAVED: 1.0, LITE: 1.0}
BATCH_MATES = ("answers depend on the other images of the batch", "training=False")
LISTED = [
    Case("01", "grouped", right={SAVED: 1.0}),
    Case("01", "float16", right=BOTH),
    Case("01", "float64", right=BOTH),
    # Keras 3 calls the layers of such a file as in inference, whatever they were called with: so it answers itself.
    Case("01", "batchnorm", right=BOTH),
    Case("01", "float64", {"variants": [SAVED, LITE, ONNX]}, right=BOTH | {ONNX: 1.0}),
    Case("02", says=("depends strongly on how images are resized",)),
    Case("02", params={"custom.preset": "load_img"}, right={SAVED: None, LITE: None}),
    Case("03", failed={SAVED: ("no answer", "flat_"), LITE: ("no answer", "flat_")}),
    Case("04", refused=("away",)),
    Case("05", "suffixes", images=30, right=BOTH),
    Case("05", "checkpoints", images=30, right=BOTH, says=("left out", ".ipynb_checkpoints")),
    Case("06", right=BOTH, failed={HALF: ("of 9 weights of conv2d_1", "65,504")}),
    Case("07", right=BOTH),
    Case("08", refused=BATCH_MATES),
    Case("09", images=30, right=BOTH),
    Case("10", says=("green/green_000.png and red/again_0.png", "green and red")),
    Case("11", right=BOTH),
    Case("14", right={SAVED: 1.0, ONNX: 1.0}, failed={LITE: ("lstm", "batch"), LITE8: ("lstm", "batch")}),
    Case("15", refused=("Lambda", "model.trusted")),
    Case(
        "16",
        says=(
            "9 of 11 classes are answered as another one throughout: name the classes in their order in custom.labels",
        ),
    ),
    Case("16", params={"custom.labels": [str(n) for n in (0, 1, 10, *range(2, 10))]}, right=BOTH),
    Case("17", refused=("2", "10, 20, 30")),
    Case("18", params={"custom.orientation": False}, right={SAVED: None, LITE: None}),
    Case("19", images=30, right=BOTH, says=("60 hidden files were left out, such as",)),
    Case("20", right={SAVED: 1.0}, says=("8 bits cannot tell 500 classes apart",)),
    Case("21", right={SAVED: 1.0}),
    Case("22", right=BOTH),
]


def ident(case: Case) -> str:
    """As a word of pytest's command line."""
    return "-".join(filter(None, [case.name, case.kind, *map(str, case.params)]))


@pytest.mark.parametrize("case", LISTED, ids=ident)
def test_a_case_ends_as_it_must(case: Case, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    if not CASES.exists():
        pytest.skip("the cases lie in ../shared/cases, which is not there")
    place, project = tmp_path / "case", bare(tmp_path_factory)
    (folder,) = CASES.glob(f"{case.name}-*")
    command = [sys.executable, str(folder / "make.py"), str(place), *filter(None, [case.kind])]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"its script is for another Keras: {made.stderr.splitlines()[-1]}")
    project.ok("python", str(CASES / "apply.py"), f"{place}/overlay.yaml", "params.yaml")
    project.edit(lambda values: change(values, case.params, place))
    commit(project)
    done = project.repro()
    text = done.stdout + done.stderr
    assert "Traceback" not in text
    for words in (*case.says, *case.refused):
        assert words in text, text
    assert (done.returncode == 0) == (not case.failed and not case.refused), text
    if case.refused:
        assert "| savedmodel-fp32" not in text
        assert not (place / "RAN-CODE-OF-THE-MODEL-FILE").exists()
        return
    strict_json(project)
    judge(case, project.rows(), json.loads(path.read_text()) if (path := place / "truth.json").exists() else {})
    assert case.images is None or project.summary().evaluation.images == case.images


def change(values: dict[str, Any], params: Mapping[str, Any], place: Path) -> None:
    """Lay a case's own changes over its params; a list of class names is written as a file."""
    for key, value in params.items():
        block, _, name = key.rpartition(".")
        if name == "labels":
            (place / "named.txt").write_text("".join(f"{line}\n" for line in value))
            value = str(place / "named.txt")
        (values[block] if block else values)[name] = value


def strict_json(project: Project) -> None:
    """No record has NaN or infinity, which JSON does not know."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for path in (project.folder / "reports").rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)


def judge(case: Case, rows: Mapping[str, Row], truth: Mapping[str, float]) -> None:
    """Every row that the case names is right within a point, or has failed for the reason."""
    for name, top1 in case.right.items():
        row = rows[name]
        expected = truth["top1_by_keras"] if top1 is None else top1
        assert row.status.ok and row.accuracy, row.status
        assert row.accuracy.top1.value == pytest.approx(expected, abs=0.01), name
    for name, words in case.failed.items():
        assert rows[name].status.state == "failed", rows[name].status
        assert all(word in str(rows[name].status.reason) for word in words), rows[name].status.reason
