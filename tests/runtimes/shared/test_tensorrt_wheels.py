import pytest

from stages.runtimes.shared import distributions
from stages.runtimes.shared.tensorrt_wheels import Installed, installed


@pytest.mark.parametrize(
    ("wheels", "expected"),
    [
        ({}, None),
        ({"tensorrt": "8.5.3.1", "tensorrt-rtx-cu13-bindings": "1.7.1"}, Installed("tensorrt", "8.5.3.1")),
        ({"tensorrt-cu12-bindings": "11.4.0"}, Installed("tensorrt-cu12-bindings", "11.4.0")),
        (
            {"tensorrt-rtx-cu13-bindings": "1.7.1", "cuda-bindings": "13.4"},
            Installed("tensorrt-rtx-cu13-bindings", "1.7.1"),
        ),
        ({"tensorrt-rtx-cu13-bindings": "1.7.1"}, None),  # here for the tests
    ],
)
def test_the_tensorrt_of_python_is_that_of_its_wheel(
    monkeypatch: pytest.MonkeyPatch, wheels: dict[str, str], expected: Installed | None
) -> None:
    monkeypatch.setattr(distributions, "version", wheels.get)
    assert installed() == expected


def test_its_name_tells_rtx_from_the_others() -> None:
    assert Installed("tensorrt-cu12-bindings", "11.4.0").name == "TensorRT 11.4.0"
    rtx = Installed("tensorrt-rtx-cu13-bindings", "1.7.1")
    assert (rtx.name, rtx.is_rtx) == ("TensorRT-RTX 1.7.1", True)
