"""Log the pipeline's results to MLflow: a parent run for the pipeline and a child run for each variant, once."""

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.common import errors, files, params, paths
from stages.common.errors import PipelineError
from stages.common.params import Params

Record = dict[str, Any]

# The tag by which a pipeline run is found again: a digest of the parameters and of all results.
KEY = "pipeline.key"
RECORDS = ("convert.json", "evaluate.json", "predictions.csv")


def tracking_uri(setting: Params, checkout: Path) -> str:
    """MLflow's own variable first, then params.yaml, then a database in the main checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or setting.tracking.uri or f"sqlite:///{checkout.resolve()}/mlflow.db"


def run_key(setting: Params, summary: Record) -> str:
    """Same parameters and same results: same run."""
    return hashlib.sha256(json.dumps([asdict(setting), summary], sort_keys=True).encode()).hexdigest()[:16]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested parameters as MLflow wants them: one level, dotted names."""
    if not isinstance(value, dict):
        return {prefix: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value}
    return {key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{prefix}.{name}".strip(".")).items()}


def result_digest(row: Record) -> str:
    """Digest of a variant's own results: equal only if nothing was converted, evaluated or timed again."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]


class Store:
    """One experiment in one MLflow store."""

    def __init__(self, uri: str, experiment: str, checkout: Path) -> None:
        """Connect, and create the experiment if it is new; artifacts of a local store lie beside its database."""
        import mlflow

        # Fail after seconds, not minutes: the next run logs what is missing.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        self._client = mlflow.MlflowClient(uri)
        found = self._client.get_experiment_by_name(experiment)
        if found is None:
            local = f"{checkout.resolve()}/mlartifacts" if uri.startswith("sqlite:") else None
            self._experiment = self._client.create_experiment(experiment, artifact_location=local)
        elif found.lifecycle_stage == "deleted":
            raise PipelineError(f"the MLflow experiment {experiment} was deleted: restore it, or set another tracking.experiment")
        else:
            self._experiment = found.experiment_id

    def search(self, **tags: str) -> list[Any]:
        """Runs with all of these tags (a double underscore stands for a dot), oldest first."""
        query = " and ".join(f"tags.`{name.replace('__', '.')}` = '{value}'" for name, value in tags.items())
        return list(self._client.search_runs([self._experiment], query, order_by=["attributes.start_time ASC"]))

    def unfinished_or_new(self, found: list[Any], name: str, tags: dict[str, str]) -> str | None:
        """Id of a run to fill, or None if it stands already; what an interrupted run left is removed first."""
        if any(run.info.status == "FINISHED" for run in found):
            return None
        for run in found:
            self._client.delete_run(run.info.run_id)
        created = self._client.create_run(self._experiment, tags=tags, run_name=name)
        return str(created.info.run_id)

    def finish(self, run: str) -> None:
        """From here on the run counts as logged."""
        self._client.set_terminated(run)

    def log(self, run: str, values: dict[str, Any], metrics: list[tuple[str, float, int]], artifacts: list[Path]) -> None:
        """Params, metrics (name, value, step) and files of one run."""
        from mlflow.entities import Metric, Param

        parameters = [Param(key, str(value)) for key, value in values.items()]
        now = int(time.time() * 1000)
        self._client.log_batch(run, [Metric(name, value, now, step) for name, value, step in metrics], parameters)
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(run, str(path), path.name)
            elif path.exists():
                self._client.log_artifact(run, str(path))


def child_metrics(row: Record) -> list[tuple[str, float, int]]:
    """Every number of a row; the step of a latency is its batch size, so that MLflow draws it by batch."""
    plain = ("top1", "top5", "agreement", "first_inference_ms", "load_ms", "convert_s", "size_bytes", "peak_memory_bytes")
    single = [(name, float(row[name]), 0) for name in plain if row[name] is not None]
    interval = zip(("top1_ci95_low", "top1_ci95_high"), row["top1_ci95"] or (), strict=False)
    by_batch = [
        (f"{term}_{name}" if term == "latency_host" else name, float(value), int(size))
        for term in ("latency", "latency_host")
        for size, latency in (row[term] or {}).items()
        for name, value in latency.items()
    ]
    return single + [(name, float(value), 0) for name, value in interval] + by_batch


def log_pipeline(store: Store, setting: Params, summary: Record, key: str, tags: dict[str, str]) -> str:
    """Log the parent and whatever children are missing; returns the parent's id."""
    found = store.search(pipeline__key=key, level="pipeline")
    if any(run.info.status == "FINISHED" for run in found):
        return str(found[0].info.run_id)
    # An interrupted parent is gone on with, so that its finished children stay where they are.
    parent = str(found[0].info.run_id) if found else None
    if parent is None:
        parent = store.unfinished_or_new([], summary["model"]["name"], tags | {KEY: key, "level": "pipeline"})
    assert parent is not None
    for row in summary["rows"]:
        log_variant(store, setting, row, parent, tags)
    images = {"evaluation.images": summary["evaluation"]["images"], "evaluation.digest": summary["evaluation"]["digest"], "calibration.digest": summary["calibration"]["digest"]}  # fmt: skip
    reports = [paths.SUMMARY, paths.SUMMARY_TABLE, paths.ENVIRONMENT, paths.IMAGES, paths.MODEL, paths.BENCHMARK, paths.SAMPLES, paths.PLOTS]
    store.log(parent, flat(asdict(setting)) | images, [], [*reports, paths.PARAMS])
    store.finish(parent)
    return parent


def log_variant(store: Store, setting: Params, row: Record, parent: str, tags: dict[str, str]) -> None:
    """Log one child run, tagged as cached if an earlier run holds the very same results."""
    digest = result_digest(row)
    own = store.search(mlflow__parentRunId=parent, variant=row["variant"])
    earlier = [r for r in store.search(result=digest) if r.info.status == "FINISHED" and r.data.tags.get("mlflow.parentRunId") != parent]
    cached = {"cached": "true", "cached_from": earlier[0].info.run_id} if earlier else {"cached": "false"}
    about = {"variant": row["variant"], "status": row["status"], "level": "variant", "result": digest}
    reason = {"reason": row["reason"]} if row["reason"] else {}
    run = store.unfinished_or_new(own, row["variant"], tags | about | reason | cached | {"mlflow.parentRunId": parent})
    if run is None:
        return
    values = {"variant": row["variant"], "runtime": row["runtime"], "precision": row["precision"]}
    records = [paths.record(row["variant"], name) for name in RECORDS]
    store.log(run, flat(asdict(setting)) | values, child_metrics(row), records)
    store.finish(run)


def common_tags(summary: Record, experiment: str) -> dict[str, str]:
    """What every run says of its origin."""
    machine = summary["environment"]
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    digest = hashlib.sha256(json.dumps(machine, sort_keys=True).encode()).hexdigest()[:16]
    gpu = machine["gpus"][0]["name"] if machine["gpus"] else "none"
    tags = {"model": summary["model"]["name"], "environment": digest, "gpu": gpu, "cpu": machine["cpu"]}
    return tags | ({"mlflow.source.git.commit": git} if git else {}) | ({"dvc.experiment": experiment} if experiment else {})


def already_logged(key: str, uri: str) -> bool:
    """Whether the receipt in track.json is for these results and this store, and a local store is still there."""
    receipt = files.read_json(paths.TRACK) if paths.TRACK.exists() else {}
    database = re.match(r"sqlite:///(.*)", uri)
    return bool(receipt.get("key") == key and receipt.get("uri") == uri and (not database or Path(database[1]).exists()))


@contextmanager
def one_at_a_time(checkout: Path) -> Iterator[None]:
    """Two first uses of a SQLite store would migrate it at once, and one of them would die."""
    with (checkout / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Read params and the summary, log what the store does not have yet, and write the receipt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="the main checkout, where the default store lies")
    parser.add_argument("--experiment", default="", help="name of the DVC experiment, if any")
    arguments = parser.parse_args()
    setting, summary = params.load(), files.read_json(paths.SUMMARY)
    uri, key = tracking_uri(setting, arguments.checkout), run_key(setting, summary)
    if already_logged(key, uri):
        return
    paths.TRACK.unlink(missing_ok=True)
    try:
        with one_at_a_time(arguments.checkout):
            store = Store(uri, setting.tracking.experiment, arguments.checkout)
            parent = log_pipeline(store, setting, summary, key, common_tags(summary, arguments.experiment))
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(
            f"could not log to MLflow at {uri} ({errors.describe(error)[:300]}): nothing is lost, "
            "`dvc repro` logs what is missing once the store answers"
        ) from None
    files.write_json(paths.TRACK, {"key": key, "uri": uri, "run": parent})


if __name__ == "__main__":
    errors.run(main)
