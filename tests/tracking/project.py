"""A checkout in which `register` runs, and the store that it writes to."""

from collections.abc import Callable
from pathlib import Path

import mlflow

from stages import register
from stages.contracts import codec
from stages.contracts.row import SUMMARY
from stages.contracts.selection import SELECTION, Judged, Limits, Outcome, Selection
from stages.statistics import summary
from stages.tracking.receipts import TRACK, TrackReceipt
from stages.tracking.store import stamp
from tests.fixtures import variants
from tests.fixtures.records import Results

NAME = "efficientnet_lite0"
SENTENCE = "Ship it, the best of 3 within budget."
VARIANTS = ("savedmodel-fp32", "tflite-fp32", "tflite-int8")


class Project:
    """Three variants were converted, evaluated and timed, and `track` has logged a run."""

    def __init__(self, folder: Path, built: Path, results: Results, command_line: Callable[..., None]) -> None:
        self.folder, self.command_line = folder, command_line
        for name in VARIANTS:
            variants.copy(built, name)
            results.evaluated(name, [0] * 7 + [1])
            results.timed(name, 1.25)
        self.summarize(*VARIANTS)
        self.use(f"sqlite:///{folder}/mlflow.db", (folder / "mlartifacts").as_uri())

    def summarize(self, *names: str) -> None:
        """What `summarize` writes of these variants."""
        codec.write(summary.build(names), SUMMARY)

    def use(self, uri: str, artifacts: str | None) -> None:
        """Work with that store, to which `track` has logged a run."""
        self.uri, self.client = uri, mlflow.MlflowClient(uri)
        self.experiment = self.client.create_experiment("trt-pipeline", artifacts)
        self.track()

    def track(self) -> None:
        """What `track` does: a run, and its receipt."""
        self.run = self.client.create_run(self.experiment).info.run_id
        self.client.set_terminated(self.run)
        codec.write(TrackReceipt("a key", self.uri, self.run, stamp(self.uri)), TRACK)

    def choose(self, winner: str | None, outcome: Outcome = "selected", rivals: tuple[str, ...] = ()) -> None:
        """What `select` writes."""
        judged = {name: Judged(name == winner, None, None, None) for name in VARIANTS}
        limits = Limits(None, None, 1, None, None)
        chosen = Selection("a digest", "latency", 1, limits, outcome, SENTENCE, winner, rivals, None, VARIANTS, judged)
        codec.write(chosen, SELECTION)

    def register(self, winner: str) -> None:
        self.choose(winner)
        self.main()

    def main(self, *arguments: str) -> None:
        """The stage."""
        self.command_line("--checkout", self.folder, *arguments)
        register.main()

    def aliases(self) -> dict[str, int]:
        models = self.client.search_registered_models()
        return {alias: int(version) for model in models for alias, version in model.aliases.items()}

    def versions(self) -> dict[int, str]:
        versions = self.client.search_model_versions(f"name = '{NAME}'")
        return {int(version.version): version.tags["variant"] for version in versions}

    def logged(self) -> list[str]:
        """The states of all logged models."""
        return [str(model.status) for model in self.client.search_logged_models([self.experiment])]
