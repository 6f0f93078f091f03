"""The house rules that a reader relies on: what may import what, and that DVC knows every file a stage reads."""

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.commands import dependencies
from stages.core.closure import Imports
from stages.runtimes import registry

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MODULES = sorted(path for path in (ROOT / "stages").rglob("*.py") if "tests" not in path.parts)
STAGE_FILES = [ROOT / f"stages/{stage}.py" for stage in STAGES]


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
    (tmp_path / "stages/statistics/planted.py").write_text("x = = 1\n")
    broken = subprocess.run(check, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert broken.returncode == 1
    assert broken.stderr.startswith("error: ") and "planted.py, line 1, is no Python" in broken.stderr


@pytest.mark.slow
@pytest.mark.parametrize("check", ["mypy", "lint-imports"])
def test_types_and_layers_hold(check: str) -> None:
    """Here and not before the tests: it takes half a minute, in which pipelines can run beside it."""
    done = subprocess.run([Path(sys.executable).parent / check], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_beside_the_packages_is_a_stage() -> None:
    modules = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "__main__"}
    assert modules == set(STAGES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_that_take_seconds_wait_until_they_are_needed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    at_the_top = {
        alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    at_the_top |= {
        str(node.module).split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level
    }
    assert not at_the_top & {"mlflow", "tensorflow", "keras", "ray", "pyarrow", "onnx", "onnxruntime", "scipy"}
    if path.relative_to(ROOT / "stages").parts[0] == "contracts":
        assert at_the_top <= sys.stdlib_module_names | {"numpy", "msgspec"}


@pytest.mark.parametrize("runtime", registry.RUNTIMES)
def test_a_runtime_imports_no_other(runtime: str) -> None:
    """What two share lies in runtimes/shared."""
    folder = ROOT / "stages/runtimes" / runtime
    modules = (f"stages.runtimes.{runtime}.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__")
    others = {f"stages/runtimes/{name}" for name in registry.RUNTIMES if name != runtime}
    assert not others & {path.parent.as_posix() for path in Imports().files(f"stages.runtimes.{runtime}", *modules)}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_the_params_that_dvc_knows_of(stage: str) -> None:
    """By the blocks that its file imports: a stage is the only one that reads params."""
    tree = ast.parse((ROOT / f"stages/{stage}.py").read_text())
    blocks = {
        alias.name: importlib.import_module(str(node.module))
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("stages.params.")
        for alias in node.names
    }
    keys = {getattr(module, name).KEY for name, module in blocks.items() if hasattr(getattr(module, name), "KEY")}
    declared = {next(iter(param)) if isinstance(param, dict) else param for param in STAGES[stage].get("params", [])}
    declared = {param.split(".")[0] for param in declared if not param.endswith(".json")}
    # Where a user's classes come from, `download` knows by the digest of that source.
    keys -= {"split", "evaluation"} if stage == "download" else set()
    assert "params" in declared or keys <= declared  # params.yaml as a whole


def test_stage_files_are_thin() -> None:
    assert {path.name: lines for path in STAGE_FILES if (lines := path.read_text().count("\n")) > 42} == {}


def test_modules_and_functions_are_short() -> None:
    """No module above 300 lines; of all functions the median has at most 8 lines and the 90th percentile 20."""
    assert {path: lines for path in MODULES if (lines := path.read_text().count("\n")) > 300} == {}
    lengths = sorted(
        node.end_lineno - node.lineno + 1
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno
    )
    assert lengths[len(lengths) // 2] <= 8
    assert lengths[len(lengths) * 9 // 10] <= 20


def test_any_is_for_objects_of_frameworks() -> None:
    """Fewer than 60 signatures name it, and no record is a dict of anything."""
    notes = [
        (f"{path.relative_to(ROOT)} {node.name}", _annotations(node))
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert len(named := [name for name, note in notes if re.search(r"\bAny\b", note)]) < 60, named
    assert not [name for name, note in notes if "dict[str, Any]" in note]


def _annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    notes = [argument.annotation for argument in every if argument] + [function.returns]
    return " ".join(ast.unparse(note) for note in notes if note)


def test_a_conversion_depends_on_its_own_entry_of_a_training_for_int8_alone(tmp_path: Path) -> None:
    """As DVC resolves it: so that training again converts no other variant again."""
    from dvc.repo import Repo

    names = ["savedmodel-fp32", "tflite-int8", "tflite-int8-qat"]
    values = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"variants": names}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    with Repo.init(str(tmp_path), no_scm=True) as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
    trained = {output.def_path for output in stages["qat"].outs} | {"reports/sweep.json"}
    for name in names:
        deps = [dependency for dependency in stages[f"convert@{name}"].deps if dependency.def_path in trained]
        assert [(dependency.def_path, dependency.params) for dependency in deps] == [
            ("reports/sweep.json", [f"sources.{name}", f"trained.{name}"])
        ]


@pytest.mark.parametrize(("given", "against"), [((), False), (("AGAINST=main",), True), (("AGAINST=",), True)])
def test_make_check_compares_with_a_revision_where_one_is_named(given: tuple[str, ...], against: bool) -> None:
    """An exported variable that nobody set is empty to the shell, and would be a revision without a name."""
    environment = {name: value for name, value in os.environ.items() if name != "AGAINST"}
    command = ["make", "--dry-run", "check", *given]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if "stages check" in line]
    assert ("--against" in line) is against
