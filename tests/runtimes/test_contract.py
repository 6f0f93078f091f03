"""Every registered runtime keeps the contract: one tiny model is converted, asked and timed through its worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.contracts import codec, predictions
from stages.contracts.conversion import MANIFEST, ConvertJob, Manifest
from stages.contracts.environment import Discovery, Machine
from stages.contracts.evaluation import Counts
from stages.contracts.messages import BatchOrder, Block, BlockOrder, Converted, Loaded, LoadOrder, PredictOrder
from stages.contracts.reference import Reference
from stages.contracts.status import OK
from stages.contracts.timing import TERMS, Memory, WarmUp
from stages.contracts.variant import Variant
from stages.core import files, isolate
from stages.core.errors import PipelineError
from stages.runtimes import environments, host, loading, registry
from stages.runtimes.client import Client
from stages.runtimes.contract import Interface
from tests.fixtures import tiny

SHAPE, CLASSES, IMAGES = (16, 16, 3), 6, 10
PREPROCESSING = tiny.preprocessing(SHAPE)
VARIANTS = [name for name in registry.valid() if not Variant.parse(name).qat]


def save(folder: Path) -> None:
    answer = tiny.save_tiny_onnx(folder, SHAPE, CLASSES)
    tiny.write_answers(folder / "answers.npy", answer, PREPROCESSING, folder / "images")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel, the ONNX file made of it, and a folder of labelled images."""
    folder = tmp_path_factory.mktemp("model")
    tiny.calibration_images(folder / "images", SHAPE, IMAGES)
    isolate.call(save, folder)
    rows = [(path.name, index % CLASSES) for index, path in enumerate(sorted((folder / "images").glob("*.png")))]
    files.write_csv(folder / "images/labels.csv", ("file", "label"), rows)
    return folder


@pytest.fixture(scope="module")
def machine() -> Machine:
    return host.describe_machine(None)


@pytest.fixture
def client(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Client]:
    """The worker of a variant that this machine has; else the test is skipped with the runtime's own reason."""
    variant = Variant.parse(request.getfixturevalue("name"))
    if variant.version:
        makeable(variant.edition)
    with Client(variant.edition) as found:
        discovery = found.ask("discover", machine, Discovery)
        assert set(discovery.unavailable) == set(registry.description(variant.runtime).precisions)
        if reason := discovery.unavailable[variant.precision]:
            pytest.skip(reason)
        yield found


def makeable(edition: str) -> None:
    """Skips where a library beside the usual one comes from a package index that is out of reach."""
    try:
        environments.interpreter(edition)
    except PipelineError as error:
        if error.code != "environment-not-made":
            raise
        pytest.skip(str(error))


def convert(client: Client, variant: Variant, model: Path, target: Path) -> Converted:
    """Into the folder, with the manifest that the stage `convert` writes."""
    options = loading.defaults(variant.runtime, {})
    source = str(model / "saved_model"), str(model / "model.onnx")
    calibration, expected = str(model / "images"), Reference(str(model / "answers.npy"), 3 * 3 * 3 * 8, 1e-4)
    order = ConvertJob(*source, str(target), variant.precision, (1, 4), calibration, PREPROCESSING, options, expected)
    converted = client.ask("convert", order, Converted)
    codec.write(Manifest(variant, OK, options), target / MANIFEST)
    return converted


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_converted_described_asked_and_timed(
    name: str, client: Client, model: Path, tmp_path: Path
) -> None:
    variant, target = Variant.parse(name), tmp_path / name
    target.mkdir()
    converted = convert(client, variant, model, target)
    assert converted.seconds > 0
    assert converted.proof.kind in {"saved_model", "trt_ops", "engine_layers", "tensor_types", "graph_layers"}
    assert files.sizes(target)
    if converted.proof.kind != "saved_model":
        facts = converted.proof.facts
        assert facts["compared_images"] == IMAGES and facts["compared_agreement"] == 1
        assert 0 <= facts["compared_difference"] < 0.1  # type: ignore[operator]
    described = client.ask("describe", str(target), Interface)
    assert len(described.input.shape or (1, 2, 3, 4)) == 4

    # As the stages do it, in a process that has converted nothing.
    with Client(variant.edition) as runner:
        assert runner.ask("load", LoadOrder(str(target), 1, PREPROCESSING), Loaded).load_ms > 0
        order = PredictOrder(str(model / "images"), str(tmp_path / "predictions.csv"), 4)
        counts = runner.ask("predict", order, Counts)
        assert counts.images == IMAGES >= counts.top5_correct >= counts.top1_correct
        for size in (1, 4):
            assert set(runner.ask("warm_up", BatchOrder(size), WarmUp).call_ms) == set(TERMS)
            block = runner.ask("block", BlockOrder(size, dict.fromkeys(TERMS, 3)), Block)
            assert all(len(block.ms[term]) == 3 and min(block.ms[term]) > 0 for term in TERMS)
            runner.ask("prove", BatchOrder(size), type(None))
        assert runner.ask("memory", None, Memory).peak_memory_bytes > 10e6
    rows = predictions.read(tmp_path / "predictions.csv")
    assert [row.file for row in rows] == [f"{index:02}.png" for index in range(IMAGES)]
    assert all(sorted(row.scores, reverse=True) == row.scores and 0 < row.scores[0] <= 1 for row in rows)


@pytest.mark.parametrize("runtime", registry.RUNTIMES)
def test_a_runtime_describes_itself_without_its_library(runtime: str) -> None:
    description = registry.description(runtime)
    assert description.name == runtime
    assert len(set(description.precisions)) == len(description.precisions) > 0
    assert not description.qat or "int8" in description.precisions
    assert all(type(value) in (bool, int, float, str, type(None)) for value in loading.defaults(runtime, {}).values())
