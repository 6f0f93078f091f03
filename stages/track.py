"""Log the results to MLflow, once: a parent run for the pipeline and a child run for each variant."""

import argparse
import json
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from stages.contracts import paths
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.measurement import system
from stages.params import document
from stages.params.document import Params
from stages.reporting import table
from stages.statistics import accuracy, per_class
from stages.statistics.paired import points_won
from stages.tracking.store import cause, connect, digest, holds, one_at_a_time, recorded, tracking_uri
from stages.training.fit import read_curve

Record = dict[str, Any]

# What is logged of every variant and of the pipeline as a whole.
RECORDS = ("convert.json", "evaluate.json", "predictions.csv")
WATCHED = ("convert", "evaluate")
PARENT_FILES = (
    paths.PARAMS, paths.SUMMARY, paths.SUMMARY_TABLE, paths.METRICS, paths.ENVIRONMENT, paths.IMAGES, paths.MODEL,
    paths.SELECTION, paths.PAGE, paths.BENCHMARK, paths.SAMPLES, paths.PLOTS,
)  # fmt: skip

# Which TensorRT a variant was made with: TF-TRT's, or that of native engines.
TENSORRT = ("tensorrt_linked", "tensorrt_loaded", "tensorrt")
# MLflow refuses longer tags; the summary stands among the artifacts anyway.
LONGEST_NOTE = 7000
LONGEST_DIGEST = 36
# In one request to a server.
MOST_METRICS = 1000
# Keys of the block train that say how a model was made, not how qat went on with it.
OF_TRAIN_ALONE = tuple(f"train.{key}" for key in ("backbone", "epochs", "frozen_epochs", "learning_rate"))


class Point(NamedTuple):
    """One metric value; without a time, that of its being logged."""

    name: str
    value: float
    step: int
    time_ms: int | None = None


class Training(NamedTuple):
    """One training: the stage that did it, what it tells of it, the params it had, and the files it wrote."""

    stage: str
    run: Record
    values: dict[str, Any]
    record: Path
    curve: Path
    tags: dict[str, str]


class Place(NamedTuple):
    """A machine that variants ran on: how their runs are named and told apart, and where their records lie."""

    suffix: str
    tags: dict[str, str]
    root: Path


HOME = Place("", {"level": "variant"}, Path())


def run_key(setting: Params, summary: Record) -> str:
    """Same parameters and same results: same run."""
    return digest([asdict(setting), summary])


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested parameters as MLflow wants them: one level, dotted names."""
    if not isinstance(value, dict):
        return {prefix: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value}
    return {
        key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{prefix}.{name}".strip(".")).items()
    }


class Store:
    """One experiment in one MLflow store."""

    def __init__(self, uri: str, experiment: str, checkout: Path) -> None:
        """Connect, and create the experiment if it is new; a local store keeps its artifacts beside its database."""
        self._client = connect(uri)
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            local = (checkout.resolve() / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
            self._experiment = self._client.create_experiment(experiment, artifact_location=local)
        elif found.lifecycle_stage == "deleted":
            raise PipelineError(
                f"the MLflow experiment {experiment} was deleted: restore it, or set another tracking.experiment"
            )
        else:
            self._experiment = found.experiment_id

    def search(self, tags: dict[str, str]) -> list[Any]:
        """Runs with all of these tags, oldest first."""
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return list(self._client.search_runs([self._experiment], query, order_by=["attributes.start_time ASC"]))

    def create(self, name: str, tags: dict[str, str]) -> str:
        """Id of a new run, unfinished until `finish`."""
        return str(self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id)

    def delete(self, run: str) -> None:
        """Remove what an interrupted run left."""
        self._client.delete_run(run)

    def finish(self, run: str) -> None:
        """From here on the run counts as logged."""
        self._client.set_terminated(run)

    def log_datasets(self, run: str, datasets: dict[str, Record]) -> None:
        """The image sets of a run, by what they were used for."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        def described(used_for: str, found: Record) -> Any:
            source, profile = json.dumps({"uri": found["source"]}), json.dumps({"images": found["images"]})
            dataset = Dataset(used_for, found["digest"][:LONGEST_DIGEST], "local", source, profile=profile)
            return DatasetInput(dataset, [InputTag("mlflow.data.context", used_for)])

        self._client.log_inputs(run, [described(used_for, found) for used_for, found in datasets.items()])

    def log(self, run: str, values: dict[str, Any], points: list[Point], artifacts: list[Path]) -> None:
        """Params, metrics and files of one run."""
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        found = [Metric(point.name, point.value, point.time_ms or now, point.step) for point in points]
        self._client.log_batch(run, params=[Param(key, str(value)) for key, value in values.items()])
        for start in range(0, len(found), MOST_METRICS):
            self._client.log_batch(run, metrics=found[start : start + MOST_METRICS])
        self.attach(run, artifacts)

    def attach(self, run: str, artifacts: list[Path], folder: str | None = None) -> None:
        """Files that exist, in a folder of the run's artifacts or beside the others; a folder keeps its name."""
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(run, str(path), path.name)
            elif path.exists():
                self._client.log_artifact(run, str(path), folder)


def finished(run: Any) -> bool:
    """Whether everything of that run was logged."""
    return bool(run.info.status == "FINISHED")


def child_metrics(row: Record) -> list[Point]:
    """Every number of a row; the step of a latency is its batch size, so that MLflow draws it by batch.

    MLflow's table of runs shows the last step alone, so that medians and throughput are there by name too.
    """
    own = row["details"] | row
    own |= {f"engine_build_s.batch{name}": value for name, value in row["details"].get("engine_build_s", {}).items()}
    own |= {f"ops_outside.{name}": count for name, count in row["details"].get("ops_outside", {}).items()}
    own |= {"engine_files": len(row["details"]["engines"])} if "engines" in row["details"] else {}
    if row["change_from_int8"]:
        own |= dict(zip(("won_back_points", "won_back_points_ci95"), points_won(row["change_from_int8"]), strict=True))
    if row["details"]["gpu"]:
        own["gpu_process_memory_bytes"] = row["details"]["gpu"]["process_memory_bytes"]
    points = [Point(name, value, 0) for name, value in accuracy.plain(own).items()]
    for term, prefix in (("latency", ""), ("latency_host", "host_")):
        for size, latency in (row[term] or {}).items():
            points += [Point(f"{prefix}{name}", value, int(size)) for name, value in accuracy.plain(latency).items()]
    for size, parts in (row["parts_ms"] or {}).items():
        points += [Point(f"host_{name}_ms", value, int(size)) for name, value in parts.items()]
    for size, latency in (row["latency"] or {}).items():
        points += [Point(f"{name}.batch{size}", latency[name], 0) for name in ("p50_ms", "throughput_ips")]
    return points


def system_metrics(variant: str, root: Path) -> list[Point]:
    """What the machine did while the variant was converted and evaluated, where MLflow's UI looks for it."""
    found = [root / paths.record(variant, f"{stage}_system.csv") for stage in WATCHED]
    watched = [sample for path in found for sample in system.read(path)]
    return [
        Point(f"system/{name}", value, step, sample.time_ms)
        for step, sample in enumerate(watched)
        for name, value in sample._asdict().items()
        if name != "time_ms" and value is not None
    ]


def note(sentence: str, table: str) -> dict[str, str]:
    """The tag that MLflow shows as a run's description: the choice, and the table where it is short enough."""
    return {"mlflow.note.content": f"{sentence}\n\n{table if len(table) < LONGEST_NOTE else 'Table: summary.md.'}"}


def log_pipeline(store: Store, setting: Params, summary: Record, chosen: Record, key: str, tags: dict[str, str]) -> str:
    """Log the parent run and whatever children are missing; returns the parent's id."""
    own = tags | {"level": "pipeline", "pipeline.key": key, "outcome": chosen["outcome"]}
    own |= {"winner": chosen["winner"]} if chosen["winner"] else {}
    own |= note(chosen["sentence"], paths.SUMMARY_TABLE.read_text(encoding="utf-8"))
    found = store.search({"level": "pipeline", "pipeline.key": key})
    # An interrupted parent is gone on with, so that its finished children stay where they are.
    parent = str(found[0].info.run_id) if found else store.create(summary["model"]["name"], own)
    if found and finished(found[0]):
        return parent
    datasets = {name: summary[name] for name in ("evaluation", "calibration")}
    for training in trainings(setting, summary):
        log_training(store, training, parent, tags)
    for row in summary["rows"]:
        log_variant(store, setting, row, parent, tags | choice(chosen, row["variant"]), datasets)
    for other in summary["other_gpus"]:
        own = tags | machine_tags(other["environment"])
        for row in other["rows"]:
            log_variant(store, setting, row, parent, own, datasets, on_gpu(other))
    digests = {f"{name}.digest": found["digest"] for name, found in datasets.items()}
    values = flat(asdict(setting)) | digests | {"evaluation.images": summary["evaluation"]["images"]}
    store.log_datasets(parent, datasets)
    # Pipelines compare by what they would ship.
    winner = [point for row in summary["rows"] if row["variant"] == chosen["winner"] for point in child_metrics(row)]
    store.log(parent, values, winner, list(PARENT_FILES))
    store.finish(parent)
    return parent


def logged(store: Store, tags: dict[str, str]) -> bool:
    """Whether the store has a run with these tags that was logged to its end; what was interrupted is removed."""
    found = store.search(tags)
    if any(finished(run) for run in found):
        return True
    for run in found:
        store.delete(run.info.run_id)
    return False


def trainings(setting: Params, summary: Record) -> list[Training]:
    """Each seed that `train` trained with, and what `qat` made of the model."""
    trained, qat, found = summary["model"]["training"], summary["qat"], []
    values = flat(asdict(setting.train), "train")
    for run in trained["runs"] if trained else []:
        kept = {"kept": str(run["seed"] == trained["seed"]).lower()}
        found.append(Training("train", run, values, paths.TRAIN, paths.CURVES, kept))
    if qat and qat["status"] == "ok":
        # The others of `train` say how the model was made, not how it went on.
        values = {key: value for key, value in values.items() if key not in OF_TRAIN_ALONE}
        values |= flat(asdict(setting.qat), "qat")
        found.append(Training("qat", qat, values, paths.QAT_RECORD, paths.QAT_CURVE, {}))
    return found


def log_training(store: Store, training: Training, parent: str, tags: dict[str, str]) -> None:
    """Log a child run for one training, with its curve: the step is the epoch."""
    stage, run = training.stage, training.run
    own = {"mlflow.parentRunId": parent, "level": "training", "stage": stage, "seed": str(run["seed"])}
    if logged(store, own):
        return
    run_id = store.create(f"{stage}-seed{run['seed']}", tags | own | training.tags)
    points = [Point(name, value, 0) for name, value in accuracy.plain(run).items() if name != "seed"]
    points += [
        Point(name, value, int(row["epoch"]))
        for row in read_curve(training.curve, run["seed"])
        for name, value in row.items()
        if name not in ("seed", "epoch")
    ]
    store.log(run_id, training.values, points, [training.record, training.curve])
    store.finish(run_id)


def choice(chosen: Record, variant: str) -> dict[str, str]:
    """Tags that say whether a variant was chosen, and why not."""
    judged = chosen["variants"][variant]
    told = judged["reason"] or chosen["sentence"]
    verdict = {"verdict": judged["verdict"]} if judged["verdict"] else {}
    return {"chosen": str(variant == chosen["winner"]).lower(), "mlflow.note.content": told} | verdict


def on_gpu(other: Record) -> Place:
    """One of the other GPUs, which has runs of its own level beside those of the variants."""
    name = table.gpu(other)
    tags = {"level": "other_gpu", "gpu_model": other["gpu_model"], "gpu": name}
    return Place(f" on {name}", tags, paths.OTHER_GPUS / other["gpu_model"])


def log_variant(
    store: Store,
    setting: Params,
    row: Record,
    parent: str,
    tags: dict[str, str],
    datasets: dict[str, Record],
    place: Place = HOME,
) -> None:
    """Log one child run, tagged as cached if an earlier run holds the very same results."""
    name = row["variant"]
    identity = {"mlflow.parentRunId": parent, "variant": name} | place.tags
    if logged(store, identity):
        return
    result = digest(row)  # equal only if nothing was converted, evaluated or timed again
    earlier = [run for run in store.search({"result": result} | place.tags) if finished(run)]
    own = identity | {"status": row["status"], "result": result}
    own |= {"cached": "true", "cached_from": earlier[0].info.run_id} if earlier else {"cached": "false"}
    own |= {"reason": row["reason"]} if row["reason"] else {}
    own |= {key: row["details"][key] for key in TENSORRT if key in row["details"]}
    run_id = store.create(name + place.suffix, tags | own)
    store.log_datasets(run_id, datasets)
    values = {key: row[key] for key in ("variant", "runtime", "precision")} | {"qat": str(row["qat"]).lower()}
    store.log(
        run_id,
        flat(asdict(setting)) | values,
        child_metrics(row) + system_metrics(name, place.root),
        [place.root / paths.record(name, file) for file in RECORDS],
    )
    if place is HOME:
        store.attach(run_id, [paths.CLASSES / f"{name}{kind}" for kind in per_class.FILES], paths.CLASSES.name)
    store.finish(run_id)


def machine_tags(machine: Record) -> dict[str, str]:
    """What a run says of the machine that the variant ran on."""
    gpu = machine["gpus"][0]["name"] if machine["gpus"] else "none"
    return {"environment": digest(machine), "gpu": gpu, "cpu": machine["cpu"]}


def common_tags(summary: Record, experiment: str) -> dict[str, str]:
    """What every run says of its origin."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return (
        {"model": summary["model"]["name"]}
        | machine_tags(summary["environment"])
        | ({"mlflow.source.git.commit": git} if git else {})
        | ({"dvc.experiment": experiment} if experiment else {})
    )


def already_logged(key: str, uri: str) -> bool:
    """Whether track.json is for these results and this store, and the store still has the run."""
    receipt = recorded(paths.TRACK, key, uri)
    query = "SELECT 1 FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"

    def active(client: Any) -> bool:
        return bool(client.get_run(run).info.lifecycle_stage == "active")

    run = str(receipt.get("run", "")) if receipt else ""
    return bool(run) and holds(uri, query, [run], active)


def main() -> None:
    """Read params and the summary, log what the store does not have yet, and write the receipt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="the main checkout, where the default store lies")
    parser.add_argument("--experiment", default="", help="name of the DVC experiment, if any")
    arguments = parser.parse_args()
    setting, summary, chosen = document.load(), files.read_json(paths.SUMMARY), files.read_json(paths.SELECTION)
    uri, key = tracking_uri(setting, arguments.checkout), run_key(setting, summary)
    if already_logged(key, uri):
        return
    paths.TRACK.unlink(missing_ok=True)
    try:
        with one_at_a_time(arguments.checkout):
            store = Store(uri, setting.tracking.experiment, arguments.checkout)
            parent = log_pipeline(store, setting, summary, chosen, key, common_tags(summary, arguments.experiment))
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(
            f"could not log to MLflow at {uri} ({cause(error)}): nothing is lost, "
            "`make repro` logs what is missing once the store answers"
        ) from None
    files.write_json(paths.TRACK, {"key": key, "uri": uri, "run": parent})


if __name__ == "__main__":
    errors.run(main)
