"""What the tests of whole runs share."""

from collections.abc import Iterator

import pytest

from tests.pipeline.project import Project


@pytest.fixture(autouse=True)
def no_leftovers(project: Project) -> Iterator[None]:
    """Whatever a test did, nothing half-written lies under data, models or reports."""
    yield
    left = [path for name in ("data", "models", "reports") for path in (project.folder / name).rglob("*.tmp")]
    assert left == []
