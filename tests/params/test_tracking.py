from pathlib import Path

import pytest

from stages.params import load
from stages.params.tracking import TrackingParams
from tests.fixtures.params import Edit, mistakes


def test_the_shipped_file_leaves_the_server_to_the_environment(checkout: Path) -> None:
    assert load.read(TrackingParams) == TrackingParams(None, "trt-pipeline")


@pytest.mark.parametrize("key", ["uri", "experiment"])
def test_an_empty_name_is_refused(edit: Edit, key: str) -> None:
    edit((f"tracking.{key}", ""))
    assert mistakes(lambda: load.read(TrackingParams)) == {f"tracking.{key}": "string-too-short"}
