"""What an edit makes DVC run again: exactly the stages whose code imports it, asked of `dvc status` itself."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

ROOT = Path(__file__).parents[2]
VARIANTS = ("savedmodel-fp32", "tflite-fp32", "tflite-int8", "onnxruntime-fp32", "onnxruntime-int8")
ALWAYS = {"environment"}
ONNX = {"onnxruntime-fp32", "onnxruntime-int8"}
TFLITE = {"tflite-fp32", "tflite-int8"}


def of(stage: str, variants: Iterable[str]) -> set[str]:
    """Its instances, as DVC names them."""
    return {f"{stage}@{name}" for name in variants}


pytestmark = pytest.mark.slow


class Checkout:
    """A checkout in which all stages have run, as DVC sees it: their outputs are there, whatever is in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "dvc.yaml", folder)
        params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"variants": list(VARIANTS)}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        self.dvc("init", "--no-scm")
        self.dvc("config", "core.analytics", "false")
        self.run("stages.environment")
        for stage in yaml.safe_load((folder / "dvc.yaml").read_text())["stages"].values():
            self._fill(stage)
        self.dvc("commit", "--force")

    def _fill(self, stage: dict[str, Any]) -> None:
        """Write the outputs of a stage that are not there."""
        for out in stage["outs"]:
            pattern = out if isinstance(out, str) else next(iter(out))
            for name in VARIANTS if "${item" in pattern else [""]:
                path = self.folder / pattern.replace("${item.variant}", name)
                if not path.exists():
                    self._write(path if path.suffix else path / "labels.csv")

    @staticmethod
    def _write(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        sources = {"sources": dict.fromkeys(VARIANTS), "trained": dict.fromkeys(VARIANTS), "benchmark": None}
        sources |= dict.fromkeys(("preprocessing", "parameters", "allowed_difference"))  # of model.json
        path.write_text(json.dumps(sources) if path.suffix == ".json" else path.name)

    def run(self, module: str, *arguments: str) -> None:
        search = os.pathsep.join([str(self.folder), str(ROOT)])
        environment = os.environ | {"PYTHONPATH": search, "DVC_NO_ANALYTICS": "1"}
        command = [sys.executable, "-m", module, *arguments]
        subprocess.run(command, cwd=self.folder, env=environment, check=True, capture_output=True)

    def dvc(self, *arguments: str) -> str:
        """As the runner starts it, which a test compares with DVC itself."""
        environment = os.environ | {
            "DVC_NO_ANALYTICS": "1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = [sys.executable, "-m", "stages.commands.dvc", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def changed(self) -> set[str]:
        """Stages that `dvc repro` would run, apart from those that always do, by what changed of their own."""
        self.run("stages.environment")
        status = self.status().items()
        return {stage for stage, reasons in status if any(reason != "always changed" for reason in reasons)} - ALWAYS

    def status(self) -> dict[str, Any]:
        """What `dvc status` tells, without a process for it."""
        with Repo(str(self.folder)) as repo:
            found: dict[str, Any] = repo.status()
        # Asked from another folder, DVC says in which each stage is.
        return {name.rpartition(":")[2]: reasons for name, reasons in found.items()}

    @contextmanager
    def edited(self, name: str) -> Iterator[None]:
        """A one-line comment at the end of that module, for so long."""
        path = self.folder / "stages" / name
        before = path.read_text()
        comment = {".py": "# a comment\n", ".j2": "{# a comment #}\n", ".css": "/* a comment */\n"}[path.suffix]
        path.write_text(before + comment)
        try:
            yield
        finally:
            path.write_text(before)


@pytest.fixture(scope="module")
def checkout_of_dvc(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("edits"))


def test_nothing_is_changed_at_first(checkout_of_dvc: Checkout) -> None:
    assert checkout_of_dvc.changed() == set()


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("reporting/charts.py", {"report"}),
        ("reporting/assets/report.html.j2", {"report"}),
        ("reporting/assets/report.css", {"report"}),
        ("statistics/latency.py", {"summarize", "select", "report"}),
        ("statistics/chance.py", {"summarize"}),
        ("serving/export.py", set()),
        ("serving/triton.py", set()),
        ("data/archives.py", {"download", "images"}),
        ("tracking/store.py", set()),
        ("commands/check.py", set()),
        ("measurement/interleave.py", {"benchmark", "sweep"}),
        ("runtimes/timer.py", {"benchmark", "sweep"}),
        ("runtimes/predict.py", of("evaluate", VARIANTS) | {"sweep"}),
        ("runtimes/tflite/convert.py", of("convert", TFLITE) | {"sweep"}),
        # Its conversion loads what it made, to count the layers.
        ("runtimes/onnxruntime/session.py", of("convert", ONNX) | of("evaluate", ONNX) | {"benchmark", "sweep"}),
        ("runtimes/tensorrt/convert.py", set()),
        ("runtimes/registry.py", {"to_onnx", "sweep"}),
        ("runtimes/environments.py", {"sweep"}),
    ],
)  # fmt: skip
def test_an_edit_runs_what_imports_it(checkout_of_dvc: Checkout, module: str, stages: set[str]) -> None:
    with checkout_of_dvc.edited(module):
        assert checkout_of_dvc.changed() == stages


def test_an_option_of_a_runtime_converts_its_own_variants_alone(checkout_of_dvc: Checkout) -> None:
    params = checkout_of_dvc.folder / "params.yaml"
    before = params.read_text()
    params.write_text(re.sub(r"xnnpack: true", "xnnpack: false", before))
    try:
        changed = checkout_of_dvc.changed()
    finally:
        params.write_text(before)
    own = of("convert", TFLITE) | of("evaluate", TFLITE)
    # The choice holds for the params it was made with.
    assert changed == own | {"benchmark", "sweep", "select", "report", "track"}


def test_another_onnx_file_converts_the_variants_that_start_from_it_alone(checkout_of_dvc: Checkout) -> None:
    assert checkout_of_dvc.changed() == set()
    record = checkout_of_dvc.folder / "reports/onnx.json"
    before = record.read_text()
    values = json.loads(before)
    record.write_text(json.dumps(values | {"sources": dict.fromkeys(VARIANTS) | dict.fromkeys(ONNX, "another")}))
    try:
        status = checkout_of_dvc.status()
    finally:
        record.write_text(before)
    assert set(status) - ALWAYS == of("convert", ONNX) | {"to_onnx"}


def test_a_changed_result_reaches_its_own_and_no_other_variant(checkout_of_dvc: Checkout) -> None:
    """Of new TFLite files: what DVC takes each next stage's inputs for, down to the report."""
    assert checkout_of_dvc.changed() == set()
    folder = checkout_of_dvc.folder
    written = [folder / "models" / name / "labels.csv" for name in TFLITE]
    written += [path for name in TFLITE for path in (folder / "reports/variants" / name).iterdir()]
    written += [
        folder / "reports" / name for name in ("benchmark.json", "samples.csv", "summary.json", "selection.json")
    ]
    before = {path: path.read_text() for path in written}
    for path in written:
        path.write_text(before[path] + " ")
    try:
        status = checkout_of_dvc.status()
    finally:
        for path, text in before.items():
            path.write_text(text)
    fed = {
        stage
        for stage, reasons in status.items()
        if any("changed deps" in reason for reason in reasons if isinstance(reason, dict))
    }
    assert fed - ALWAYS == of("evaluate", TFLITE) | {"benchmark", "summarize", "select", "report", "track", "register"}
