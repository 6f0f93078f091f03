"""What the tests of this room share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.tiny import save_tiny


@pytest.fixture(scope="session")
def tiny_saved_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Callable[[Any], Any]]:
    """A SavedModel of images [4, 4, 3] and 6 classes, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("saved_model")
    return folder, save_tiny(folder, (4, 4, 3), 6)
