from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import evaluate
from stages.cluster import adopt, kept
from stages.contracts import codec, predictions, system
from stages.contracts.conversion import MANIFEST, Manifest, folder
from stages.contracts.evaluation import Counts, Evaluation, evaluation_path, predictions_path
from stages.contracts.images import EVALUATION
from stages.contracts.messages import LoadOrder, PredictOrder
from stages.contracts.model import MODEL
from stages.contracts.predictions import HEADER
from stages.contracts.status import OK, Status
from stages.contracts.system import Sample, system_path
from stages.contracts.variant import Variant
from stages.core import files
from stages.measurement import evaluation
from stages.params.measurement import variants
from tests.fixtures.errors import refused
from tests.fixtures.records import PREPARED, TINY

Command = Callable[..., None]
NAME = "tflite-fp32"
NO_PREDICTIONS = ",".join(HEADER) + "\n"


@pytest.fixture
def run(checkout: Path, command_line: Command) -> Callable[[], None]:
    def main() -> None:
        command_line(NAME)
        evaluate.main()

    codec.write(TINY, MODEL)
    return main


def write_manifest(status: Status) -> None:
    codec.write(Manifest(Variant.parse(NAME), status, {}), folder(NAME) / MANIFEST)


def outcome() -> Evaluation:
    return codec.read(Evaluation, evaluation_path(NAME))


@pytest.mark.parametrize("state", ["skipped", "failed"])
def test_a_variant_without_a_model_is_skipped(run: Callable[[], None], state: Any) -> None:
    write_manifest(Status(state, "no NVIDIA GPU"))
    run()
    assert outcome() == Evaluation(Status("skipped", "no NVIDIA GPU"))
    assert system.read(system_path(NAME, "evaluate")) == []
    assert predictions_path(NAME).read_text() == NO_PREDICTIONS


class FakeClient:
    """Writes what a worker would, and notes what it is asked."""

    requests: list[tuple[str, Any]]

    def __init__(self, runtime: str) -> None:
        assert runtime == "tflite"

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None: ...

    def ask(self, verb: str, arguments: Any, kind: type) -> Any:
        self.requests.append((verb, arguments))
        if verb == "predict":
            predictions.write([predictions.Prediction.plain("a.png", 1, [1], [0.5])], Path(arguments.target))
        return Counts(7, 5, 6) if kind is Counts else None


def test_main_records_the_counts(run: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(OK)
    FakeClient.requests = []
    monkeypatch.setattr(evaluation, "Client", FakeClient)
    run()
    assert outcome() == Evaluation(OK, Counts(7, 5, 6))
    assert [row.file for row in predictions.read(predictions_path(NAME))] == ["a.png"]
    assert len(system.read(system_path(NAME, "evaluate"))) == 1
    assert FakeClient.requests == [
        ("load", LoadOrder(str(folder(NAME)), None, PREPARED)),
        ("predict", PredictOrder(str(EVALUATION), str(predictions_path(NAME)), 8)),
    ]


def test_a_failure_is_recorded_with_its_reason_and_nothing_of_an_earlier_run(run: Callable[[], None]) -> None:
    write_manifest(OK)
    (folder(NAME) / "model.tflite").write_bytes(b"no model")
    files.write_text(predictions_path(NAME), "from an earlier run")
    system.write([Sample(1, 2.0, 3.0, None, None, None)], system_path(NAME, "evaluate"))
    error = refused(run)
    assert (error.code, error.values) == ("not-evaluated", {"variant": NAME})
    assert outcome().status.state == "failed"
    assert str(outcome().status.reason).startswith("ValueError: ")
    assert predictions_path(NAME).read_text() == NO_PREDICTIONS
    assert system.read(system_path(NAME, "evaluate")) == []


def test_a_missing_manifest_is_told(run: Callable[[], None]) -> None:
    error = refused(run)
    assert (error.code, error.values["file"]) == ("record-missing", f"models/{NAME}/variant.json")


def test_what_a_cluster_evaluated_is_adopted_and_what_it_lost_is_a_failure(run: Callable[[], None]) -> None:
    write_manifest(OK)
    sweep = adopt.Sweep("ray", "T4", dict.fromkeys(variants()) | {NAME: "a"}, None, {})
    adopt.write(sweep)
    with kept.Kept("T4").keeping(f"evaluate@{NAME}", "key") as place:
        codec.write(Evaluation(OK, Counts(3, 2, 3)), place / evaluation_path(NAME))
    run()
    assert outcome() == Evaluation(OK, Counts(3, 2, 3))
    adopt.write(adopt.Sweep("ray", "T4", sweep.sources, None, {f"evaluate@{NAME}": "its worker was lost"}))
    assert refused(run).code == "not-evaluated"
    assert outcome() == Evaluation(Status("failed", "its worker was lost"))
