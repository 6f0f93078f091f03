"""What C++ code prints is not the user's business; what goes on afterwards is."""

import os

import pytest

from stages.core.unseen import without_log


def test_what_is_printed_meanwhile_is_unseen_and_what_follows_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="of ours"), without_log():
        os.write(2, b"loc(callsite(")
        raise ValueError("of ours")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"
