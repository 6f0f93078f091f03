"""The house rules that a reader relies on: what may import what, and that DVC knows every file a stage reads."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.commands import dependencies

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MODULES = sorted((ROOT / "stages").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_the_code_dependencies_in_dvc_yaml_are_those_of_the_imports() -> None:
    assert not dependencies.difference()


def test_a_planted_import_and_a_planted_file_are_seen(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    check = [sys.executable, "-m", "stages", "deps", "--check"]
    assert subprocess.run(check, cwd=tmp_path, check=False).returncode == 0
    with (tmp_path / "stages/statistics/chance.py").open("a") as module:
        module.write("def planted() -> None:\n    from stages.statistics import planted\n")
    (tmp_path / "stages/statistics/planted.py").write_text('TEMPLATE = "planted.txt"\n')
    (tmp_path / "stages/statistics/planted.txt").write_text("words")
    seen = subprocess.run(check, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert seen.returncode == 1
    added = [line for line in seen.stderr.splitlines() if line.startswith("+ ")]
    # Only `summarize` asks whether a model guesses.
    assert added == ["+      - stages/statistics/planted.py", "+      - stages/statistics/planted.txt"]


def test_every_module_beside_the_packages_is_a_stage() -> None:
    modules = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "__main__"}
    assert modules == set(STAGES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_main_reads_params_and_tensorflow_waits_until_it_is_needed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    at_the_top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    at_the_top |= {str(node.module).split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not at_the_top & {"mlflow", "tensorflow", "keras", "ray", "pyarrow"}
    if path.name == "__main__.py":
        return
    loads = [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "document.load"
    ]
    assert set(loads) <= {"main"}


def test_a_conversion_depends_on_its_own_entry_of_a_training_for_int8_alone(tmp_path: Path) -> None:
    """As DVC resolves it: so that training again converts no other variant again."""
    from dvc.repo import Repo

    names = ["savedmodel-fp32", "tflite-int8", "tflite-int8-qat"]
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"variants": names}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
    trained = {output.def_path for output in stages["qat"].outs}
    assert "reports/qat.json" in trained
    for name in names:
        found = [dependency for dependency in stages[f"convert@{name}"].deps if dependency.def_path in trained]
        assert [(dependency.def_path, dependency.params) for dependency in found] == [
            ("reports/qat.json", [f"sources.{name}"])
        ]


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_lock_files_have_hashes_and_name_no_index(lock: Path) -> None:
    lines = lock.read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert pins and all("==" in line and line.endswith("\\") for line in pins)
    assert not [line for line in lines if "index-url" in line or "://" in line]
