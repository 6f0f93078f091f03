from collections.abc import Callable
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path

import pytest

from stages.core import errors
from stages.core.closure import Imports
from stages.core.errors import PipelineError
from stages.params import document, load
from stages.params.choice import Budget
from stages.params.data import CalibrationParams, EvaluationParams
from stages.params.measurement import BenchmarkParams
from stages.params.training import TrainParams
from tests.fixtures.params import Change, Edit, mistakes


def refusal(content: bytes) -> PipelineError:
    load.PARAMS.write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        load.read(EvaluationParams)
    assert caught.value.values["file"] == "params.yaml"
    return caught.value


def test_a_block_of_the_shipped_file_is_read(checkout: Path) -> None:
    assert load.read(EvaluationParams) == EvaluationParams("sample", 8)


def test_one_block_is_read_whatever_the_others_hold(edit: Edit) -> None:
    edit(("calibration", "nonsense"), ("benchmark.repeats", 0), ("unknown", 1), ("variants", []))
    assert load.read(EvaluationParams).batch_size == 8
    assert mistakes(lambda: load.read(CalibrationParams)) == {"calibration": "dataclass-type"}
    assert mistakes(lambda: load.read(BenchmarkParams)) == {"benchmark.repeats": "greater-than-equal"}


def test_a_block_that_is_missing_is_named(checkout: Path) -> None:
    load.PARAMS.write_text("model: {}\n")
    assert mistakes(lambda: load.read(EvaluationParams)) == {"evaluation": "missing"}


def test_a_block_may_be_read_from_another_file(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("evaluation: {source: photos, batch_size: 2}\n")
    assert load.read(EvaluationParams, other) == EvaluationParams("photos", 2)


def test_options_of_a_runtime_are_its_block_as_it_stands(edit: Edit) -> None:
    assert load.options("tftrt") == {
        "tf32": True,
        "minimum_segment_size": 3,
        "max_workspace_mib": None,
        "maximum_cached_engines": None,
        "dynamic_shapes": False,
        "profile_strategy": "Range",
    }
    assert load.options("tftrt")["tf32"] is True
    edit(("tflite", {}))
    assert load.options("tflite") == {}


def test_options_of_a_runtime_may_be_left_out(checkout: Path) -> None:
    load.PARAMS.write_text("model: {}\n")
    assert load.options("tflite") == {}


def test_options_are_plain_values_by_name(edit: Edit) -> None:
    edit(("tflite", [1]))
    assert mistakes(lambda: load.options("tflite")) == {"tflite": "dict-type"}


def test_settings_cannot_be_changed_after_loading(checkout: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        load.read(EvaluationParams).batch_size = 3  # type: ignore[misc]


@pytest.mark.parametrize("text", [b"", b"# nothing but a comment\n", b"null\n", b"- model\n"])
def test_a_file_that_is_no_block_of_keys_is_refused(checkout: Path, text: bytes) -> None:
    assert refusal(text).values["mistakes"] == {"": "dict-type"}


@pytest.mark.parametrize(
    "content",
    [
        *(b"model: [1\n", b"model: a: b\n", b"\tmodel: 1\n"),
        "tracking: {experiment: né}".encode("latin-1"),
    ],
)
def test_invalid_yaml_is_one_line_with_its_place(checkout: Path, content: bytes) -> None:
    error = refusal(content)
    assert error.code == "params-no-yaml"
    assert "\n" not in str(error) and error.values["line"] in (1, 2)


def test_a_missing_file_is_named(checkout: Path) -> None:
    load.PARAMS.unlink()
    with pytest.raises(PipelineError) as caught:
        load.read(EvaluationParams)
    assert (caught.value.code, caught.value.values) == ("params-missing", {"file": "params.yaml"})


def test_a_key_that_changes_while_it_is_in_use_fails_the_command(
    edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(change: Change) -> None:
        load.read(EvaluationParams)
        edit(change)

    errors.run(partial(main, ("calibration.seed", 7)))  # of which this command knows nothing
    with pytest.raises(SystemExit):
        errors.run(partial(main, ("evaluation.batch_size", 7)))
    errors.run(partial(main, ("evaluation.batch_size", 7)))  # as it stands there already
    assert capsys.readouterr().err == (
        "error: `evaluation` in params.yaml changed while it was in use: run the same command again, which reads it "
        "anew\n"
    )


@pytest.mark.parametrize("read", [document.check, load.digest])
def test_who_reads_the_whole_file_is_told_of_any_change(edit: Edit, read: Callable[[], object]) -> None:
    errors.run(read)
    with pytest.raises(SystemExit):
        errors.run(lambda: (read(), edit(("calibration.seed", 7))))


def test_a_key_that_stands_twice_is_refused_with_its_line(checkout: Path) -> None:
    error = refusal(load.PARAMS.read_bytes() + b"variants: [savedmodel-fp32]\n")
    assert error.code == "params-no-yaml"
    assert "`variants` stands there twice" in str(error) and "line" in str(error)


@pytest.mark.parametrize("name", ["source", "batch_size"])
def test_a_missing_key_is_named(edit: Edit, name: str) -> None:
    edit(("evaluation", {key: value for key, value in (("source", "sample"), ("batch_size", 8)) if key != name}))
    assert mistakes(lambda: load.read(EvaluationParams)) == {f"evaluation.{name}": "missing"}


def test_an_unknown_key_is_named_with_its_block(edit: Edit) -> None:
    edit(("calibration.zzz", 1), ("train.augment.shft", 1.0))
    assert mistakes(lambda: load.read(CalibrationParams)) == {"calibration.zzz": "unknown-key"}
    assert mistakes(lambda: load.read(TrainParams)) == {"train.augment.shft": "unknown-key"}


@pytest.mark.parametrize("value", ["8", True, 1.5, None, float("nan"), [8]])
def test_a_value_of_another_type_is_not_converted(edit: Edit, value: object) -> None:
    edit(("evaluation.batch_size", value))
    assert mistakes(lambda: load.read(EvaluationParams)) == {"evaluation.batch_size": "int-type"}


@pytest.mark.parametrize("value", [0, -1])
def test_a_count_is_at_least_one(edit: Edit, value: int) -> None:
    edit(("evaluation.batch_size", value))
    assert mistakes(lambda: load.read(EvaluationParams)) == {"evaluation.batch_size": "greater-than-equal"}


def test_a_number_that_yaml_takes_for_text_is_refused(checkout: Path) -> None:
    load.PARAMS.write_text(load.PARAMS.read_text().replace("max_size_bytes: null", "max_size_bytes: 1e7"))
    assert mistakes(lambda: load.read(Budget)) == {"budget.max_size_bytes": "int-type"}


def test_a_choice_holds_for_all_parameters_but_where_results_are_logged(edit: Edit) -> None:
    before = load.digest()
    load.PARAMS.write_text("# a comment\n" + load.PARAMS.read_text())
    edit(("tracking.experiment", "another"))
    assert load.digest() == before
    digests = {before}
    for change in (("budget.max_size_bytes", 10**9), ("tflite.xnnpack", False), ("variants", ["savedmodel-fp32"])):
        edit(change)
        digests.add(load.digest())
    assert len(digests) == 4


def test_a_block_depends_on_no_runtime_and_not_on_the_whole_file() -> None:
    imports = Imports()
    for block in ("model", "data", "training", "measurement", "choice", "execution", "tracking"):
        code = {path.as_posix() for path in imports.files(f"stages.params.{block}")}
        assert f"stages/params/{block}.py" in code
        assert not {path for path in code if "/runtimes/" in path or path.endswith("/document.py")}
