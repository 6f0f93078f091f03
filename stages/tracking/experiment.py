"""One experiment in an MLflow store: its runs are searched, made, filled and ended here, and nowhere else."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stages.contracts.images import ImageSet
from stages.core.errors import PipelineError
from stages.tracking.metrics import Point
from stages.tracking.store import SQLITE, connect, database

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

LONGEST_DIGEST = 36
# The tag of a run that was logged to its end: its status says how that ended which it tells of.
LOGGED = "logged"
# In one request to a server.
MOST_METRICS = 1000


class Experiment:
    """One experiment in one MLflow store."""

    def __init__(self, uri: str, name: str, checkout: Path) -> None:
        """Connect, and create the experiment if it is new; a local store keeps its artifacts beside its database."""
        self._client = connect(uri)
        # Whoever logs to a local store holds its lock.
        self._alone = database(uri) is not None
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            local = (checkout.resolve() / "mlartifacts").as_uri() if uri.startswith(SQLITE) else None
            self._id = self._client.create_experiment(name, artifact_location=local)
        elif experiment.lifecycle_stage == "deleted":
            raise PipelineError(
                f"the MLflow experiment {name} was deleted: restore it, or set another tracking.experiment",
                code="experiment-deleted",
                experiment=name,
            )
        else:
            self._id = experiment.experiment_id

    def search(self, tags: Mapping[str, str]) -> "list[Run]":
        """Runs with all of these tags, oldest first."""
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(self._client.search_runs([self._id], query, order_by=["attributes.start_time ASC"]))

    def complete(self, tags: Mapping[str, str]) -> bool:
        """Whether there is a run with these tags that was logged to its end; what was interrupted is removed."""
        runs = self.search(tags)
        if any(finished(run) for run in runs):
            return True
        for run in runs:
            self._client.delete_run(run.info.run_id)
        return False

    def create(self, name: str, tags: Mapping[str, str]) -> str:
        """Id of a new run, unfinished until `finish`."""
        return str(self._client.create_run(self._id, tags=dict(tags), run_name=name).info.run_id)

    def resume(self, run: "Run") -> str:
        """Go on with a run that was interrupted."""
        self._client.update_run(run.info.run_id, "RUNNING")
        return str(run.info.run_id)

    def finish(self, run: str, failed: bool = False) -> None:
        """From here on the run counts as logged, whether what it tells of went well or failed."""
        self._client.set_terminated(run, "FAILED" if failed else "FINISHED")
        self._client.set_tag(run, LOGGED, "true")

    def kill(self, parent: str | None = None) -> None:
        """End the pipeline's runs that stand as running, a parent's with it or all: nobody logs them any more."""
        for run in self._client.search_runs([self._id], "attributes.status = 'RUNNING'"):
            tags = run.data.tags
            if "level" in tags and parent in (None, run.info.run_id, tags.get("mlflow.parentRunId")):
                self._client.set_terminated(run.info.run_id, "KILLED")

    def end_abandoned(self) -> None:
        """What a killed process left as running; on a server it may be that of somebody at work."""
        if self._alone:
            self.kill()

    def log(
        self, run: str, values: Mapping[str, object], points: Sequence[Point], artifacts: Sequence[Path] = ()
    ) -> None:
        """Params, metrics and files of one run."""
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        metrics = [Metric(point.name, point.value, point.time_ms or now, point.step) for point in points]
        self._client.log_batch(run, params=[Param(key, str(value)) for key, value in values.items()])
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])
        self.attach(run, artifacts)

    def attach(self, run: str, artifacts: Sequence[Path], folder: str | None = None) -> None:
        """Files that exist, in a folder of the run's artifacts or beside the others; a folder keeps its name."""
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(run, str(path), path.name)
            elif path.exists():
                self._client.log_artifact(run, str(path), folder)

    def log_datasets(self, run: str, sets: Mapping[str, ImageSet]) -> None:
        """The image sets of a run, by what they were used for."""
        self._client.log_inputs(run, [_dataset(used_for, images) for used_for, images in sets.items()])


def finished(run: "Run") -> bool:
    """Whether everything of that run was logged."""
    return bool(run.info.status == "FINISHED") or LOGGED in run.data.tags


def _dataset(used_for: str, images: ImageSet) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source, profile = json.dumps({"uri": images.source}), json.dumps({"images": images.images})
    dataset = Dataset(used_for, images.digest[:LONGEST_DIGEST], "local", source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", used_for)])
