import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from stages.tracking.registry import CHAMPION, PREVIOUS, Registry

NAME = "tiny"


@pytest.fixture
def client(migrated: Path, tmp_path: Path) -> MlflowClient:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def registry(client: MlflowClient) -> Registry:
    return Registry(client, NAME)


@pytest.fixture
def versions(client: MlflowClient, registry: Registry, tmp_path: Path) -> list[str]:
    """Three, the first and the last of which are alike."""
    experiment = client.create_experiment("an experiment", (tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    added = []
    for variant in ("a", "b", "a"):
        model = client.create_logged_model(experiment, variant, run)
        added.append(registry.add(client.finalize_logged_model(model.model_id, "READY"), run, {"variant": variant}))
    return added


def aliases(client: MlflowClient) -> dict[str, int]:
    (model,) = client.search_registered_models()
    return {alias: int(version) for alias, version in model.aliases.items()}


def test_an_unknown_model_has_no_versions(registry: Registry, client: MlflowClient) -> None:
    assert (registry.champion(), registry.find({"variant": "a"})) == (None, None)
    assert client.search_registered_models() == []


def test_a_version_is_found_by_its_tags_the_newest_first(registry: Registry, versions: list[str]) -> None:
    assert versions == ["1", "2", "3"]
    assert [registry.find({"variant": name}) for name in "abc"] == ["3", "2", None]


def test_of_two_alike_the_champion_is_found(registry: Registry, versions: list[str]) -> None:
    registry.promote("1")
    assert registry.find({"variant": "a"}) == "1"


def test_the_champion_before_stays_reachable(registry: Registry, versions: list[str], client: MlflowClient) -> None:
    registry.promote("1")
    assert aliases(client) == {CHAMPION: 1}
    registry.promote("3")
    assert aliases(client) == {CHAMPION: 3, PREVIOUS: 1}
    assert registry.champion() == "3"


def test_a_description_and_tags_are_the_versions(registry: Registry, versions: list[str], client: MlflowClient) -> None:
    registry.describe("2", {"top1": "0.5"}, "the second")
    version = client.get_model_version(NAME, "2")
    assert (version.description, version.tags) == ("the second", {"variant": "b", "top1": "0.5"})
