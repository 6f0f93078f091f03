from typing import Any

import pytest

from stages.params import load
from stages.params.execution import ExecutionParams
from tests.fixtures.params import Edit, mistakes


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("engine", "dask", "literal-error"),
        ("retries", -1, "greater-than-equal"),
        ("retries", "2", "int-type"),
        ("gpu_model", "", "string-too-short"),
        ("images", "photos", "not-on-all-nodes"),
        ("images", "s3://", "not-on-all-nodes"),
        ("images", "s3://key:secret@bucket/photos", "credentials"),
    ],
)
def test_an_execution_that_cannot_be_is_refused(edit: Edit, key: str, value: Any, code: str) -> None:
    edit((f"execution.{key}", value))
    assert mistakes(lambda: load.read(ExecutionParams)) == {f"execution.{key}": code}


@pytest.mark.parametrize("place", ["/mnt/photos", "s3://bucket/photos/", "/"])
def test_images_of_a_cluster_are_a_whole_path_or_an_address(edit: Edit, place: str) -> None:
    edit(("execution.images", place))
    assert load.read(ExecutionParams).images == (place.rstrip("/") or "/")
