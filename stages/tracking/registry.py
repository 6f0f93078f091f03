"""A registered model of MLflow's registry and its two aliases: the version to ship, and the one before it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION, PREVIOUS = "champion", "previous-champion"


class Registry:
    """The versions of one registered model, by way of MLflow's client."""

    def __init__(self, client: "MlflowClient", name: str) -> None:
        """Look at nothing yet: the model may not be registered."""
        self._client = client
        self.name = name

    def champion(self) -> str | None:
        """The version with the alias."""
        model = self._registered()
        return str(model.aliases[CHAMPION]) if model and CHAMPION in model.aliases else None

    def newest(self) -> str | None:
        """The last version; None where there is none."""
        return max((str(version.version) for version in self._versions()), key=int, default=None)

    def tags(self, version: str) -> dict[str, str]:
        """Of one version."""
        return dict(self._client.get_model_version(self.name, version).tags)

    def find(self, tags: dict[str, str]) -> str | None:
        """A version with all of these tags: the champion if it has them, else the newest."""
        same = {str(version.version) for version in self._versions() if tags.items() <= version.tags.items()}
        champion = self.champion()
        return champion if champion in same else max(same, key=int, default=None)

    def add(self, model: "LoggedModel", run: str, tags: dict[str, str]) -> str:
        """A new version with the files of a logged model, and its tags from the start."""
        if self._registered() is None:
            self._client.create_registered_model(self.name)
        # Its address, not models:/ID, which MLflow would look up in whatever store is its global one.
        source, identifier = model.artifact_location, model.model_id
        return str(self._client.create_model_version(self.name, source, run, tags, model_id=identifier).version)

    def describe(self, version: str, tags: dict[str, str], description: str) -> None:
        """What a version is, and why it was chosen."""
        for name, value in tags.items():
            self._client.set_model_version_tag(self.name, version, name, value)
        self._client.update_model_version(self.name, version, description)

    def promote(self, version: str) -> None:
        """Make this version the champion; the one that was stays reachable as the previous one."""
        before = self.champion()
        if before is not None:
            # First: interrupted between the two, the old champion stays, and the next run does the same again.
            self._client.set_registered_model_alias(self.name, PREVIOUS, before)
        self._client.set_registered_model_alias(self.name, CHAMPION, version)

    def _versions(self) -> "list[ModelVersion]":
        return list(self._client.search_model_versions(f"name = '{self.name}'"))

    def _registered(self) -> "RegisteredModel | None":
        models = self._client.search_registered_models(f"name = '{self.name}'")
        return models[0] if models else None
