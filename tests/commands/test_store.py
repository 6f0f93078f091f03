from pathlib import Path

import pytest

from stages.commands import store
from tests.fixtures.errors import assert_helps, refused


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:word@host:5000", "http://***@host:5000"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////runs/mlflow.db", "sqlite:////runs/mlflow.db"),
    ],
)
def test_the_address_of_the_store_is_printed_without_a_login(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], address: str, shown: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    store.show()
    assert capsys.readouterr().out == f"{shown}\n"


def test_a_database_with_a_password_is_no_argument_of_a_command(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:word@host/runs")
    error = refused(store.show)
    assert error.code == "store-password" and "word@" not in str(error)
    assert_helps(error, "postgresql://***@host/runs")
