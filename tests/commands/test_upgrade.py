"""`make check UPGRADE=OLD:NEW`: its exit status, and a sentence for names that it does not know."""

from collections.abc import Callable

import pytest

from stages import __main__ as command_line
from stages import select
from stages.commands import upgrade as command
from stages.contracts import codec
from stages.contracts.row import SUMMARY
from stages.selection.upgrade import Upgrade
from stages.statistics import summary
from tests.fixtures.errors import assert_helps, refused
from tests.fixtures.records import Results

NAMES = ("savedmodel-fp32", "onnxruntime_1_23-int8", "onnxruntime-int8")
Measured = Callable[..., None]


@pytest.fixture
def measured(results: Results, edit: Callable[..., None]) -> Measured:
    """Write what the pipeline would of an old and a new ONNX Runtime, by the milliseconds of each."""
    edit(("variants", list(NAMES)))

    def write(*p50: float, answers: list[int] | None = None) -> None:
        for name, milliseconds in zip(NAMES, (40.0, *p50), strict=True):
            results.ok(name, answers if answers and name == NAMES[-1] else [0, 0, 0, 1], milliseconds)
        codec.write(summary.build(NAMES), SUMMARY)
        select.main()

    return write


def test_a_newer_one_that_is_as_good_is_status_0(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    measured(20.0, 19.0)
    assert command.check("onnxruntime_1_23:onnxruntime") == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "From onnxruntime 1.23 to onnxruntime nothing that was compared is worse beyond noise."


def test_a_slower_one_has_the_status_of_a_regression(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    measured(20.0, 30.0)
    assert command.check("onnxruntime_1_23:onnxruntime") == 5
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith(
        "Worse from onnxruntime 1.23 to onnxruntime: onnxruntime-int8: p50 at batch 1 changed by +50"
    )
    assert command.check("onnxruntime:onnxruntime_1_23") == 0


def test_rows_that_are_not_there_have_the_status_of_cannot_tell(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    measured(20.0, 20.0)
    assert command.check("tensorrt:tensorrt_11") == 3
    told = capsys.readouterr().out
    assert "Cannot tell: list tensorrt-fp32 and tensorrt_11-fp32 in `variants`" in told and "nothing" not in told


@pytest.mark.parametrize(
    "names",
    ["", ":", "onnxruntime", "onnxruntime:onnxruntime", "onnxruntime_1_22:onnxruntime", "tensorrt:onnxruntime",
     "onnxruntime:onnxruntime_1_23:onnxruntime", "a:b"],
)  # fmt: skip
def test_what_is_no_two_editions_of_a_runtime_is_a_sentence(names: str) -> None:
    error = refused(command.parse, names)
    assert error.code == "no-upgrade"
    assert_helps(error, "UPGRADE")
    assert "onnxruntime_1_23, tensorrt, tensorrt_10, tensorrt_11, tensorrt_rtx" in str(error)


def test_the_command_line_takes_one_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()
    monkeypatch.setattr(command, "check", lambda names: asked.append(names) or 5)
    arguments = command_line.parser().parse_args(["check", "--upgrade", "onnxruntime_1_23:onnxruntime"])
    assert (command_line.answer(arguments), asked) == (5, ["onnxruntime_1_23:onnxruntime"])
    assert command.parse(asked[0]) == Upgrade("onnxruntime_1_23", "onnxruntime")
    with pytest.raises(SystemExit):
        command_line.parser().parse_args(["check", "--upgrade", "a:b", "--against", "main"])


def test_no_results_are_an_error(checkout: object) -> None:
    assert refused(command.check, "onnxruntime_1_23:onnxruntime").code == "no-results"
