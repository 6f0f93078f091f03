"""What the tests of this room share."""

from collections.abc import Callable
from typing import Any

import pytest

from stages import train
from stages.training.learn import Job
from tests.fixtures.coloured import COLOURED, COLOURS, paint


@pytest.fixture
def job(checkout: Any, edit: Callable[..., None]) -> Callable[..., Job]:
    """Three classes of 20 images in data/train, and a short training on them, with further changes of params.yaml."""
    paint(dict.fromkeys(COLOURS, 20))

    def change(*changes: tuple[str, Any]) -> Job:
        edit(*COLOURED, *changes)
        return train.job()

    return change
