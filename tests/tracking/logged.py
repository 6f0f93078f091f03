"""A look into an MLflow store."""

from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

NAMES = ("savedmodel-fp32", "tftrt-fp32", "tflite-int8")
Track = Callable[..., None]


class Logged:
    """The runs of the pipeline's experiment, oldest first."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)
        experiment = self.client.get_experiment_by_name("trt-pipeline")
        assert experiment is not None
        self.experiment = experiment.experiment_id
        self.runs = list(self.client.search_runs([self.experiment], order_by=["attributes.start_time ASC"]))

    def level(self, name: str) -> dict[str, Run]:
        """The runs of a level by their names, of which no two have the same."""
        runs = [run for run in self.runs if run.data.tags["level"] == name]
        assert len({run.info.run_name for run in runs}) == len(runs)
        return {str(run.info.run_name): run for run in runs}

    @property
    def parents(self) -> list[Run]:
        return [run for run in self.runs if run.data.tags["level"] == "pipeline"]

    @property
    def parent(self) -> Run:
        (parent,) = self.parents
        return parent

    def children(self, parent: Run | None = None) -> dict[str, Run]:
        """The variants of a parent, or of the only one."""
        identifier = (parent or self.parent).info.run_id
        runs = [run for run in self.runs if run.data.tags["level"] == "variant"]
        runs = [run for run in runs if run.data.tags["mlflow.parentRunId"] == identifier]
        assert len({run.data.tags["variant"] for run in runs}) == len(runs)
        return {run.data.tags["variant"]: run for run in runs}

    def steps(self, run: Run, metric: str) -> dict[int, float]:
        return {point.step: point.value for point in self.client.get_metric_history(run.info.run_id, metric)}

    def artifacts(self, run: Run, folder: str | None = None) -> set[str]:
        return {item.path for item in self.client.list_artifacts(run.info.run_id, folder)}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
