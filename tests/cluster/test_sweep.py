"""The stage `sweep` on a real Ray cluster of several nodes on this machine, whose workers and nodes are killed.

Here is also what tests of ray.py need a cluster for: each file of tests starts clusters of its own.
"""

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.cluster import adopt, batches, ray
from stages.cluster.adopt import pack
from stages.cluster.batches import TABLE, Batch
from stages.cluster.kept import Kept
from stages.cluster.worker import Classifier, decode_batch
from stages.contracts import codec, labels
from stages.contracts.conversion import Conversion, conversion_path
from stages.contracts.environment import ENVIRONMENT, OTHER_GPUS, Environment
from stages.contracts.evaluation import Counts, Evaluation, evaluation_path, predictions_path
from stages.contracts.images import EVALUATION
from stages.contracts.row import Row
from stages.contracts.status import OK, Status
from stages.contracts.timing import TIMING, Timing
from stages.contracts.variant import BASELINE, Variant
from stages.core import files
from stages.measurement import interleave
from stages.params import load
from stages.params.execution import ExecutionParams
from stages.params.measurement import variants
from stages.runtimes import predict
from stages.statistics import summary
from tests.cluster.conftest import Checkout, Nodes, environment
from tests.cluster.tiny_model import BATCH, COUNT, KEYS, PREPARED, VARIANTS
from tests.fixtures.errors import named, refused

ONNX = ["onnxruntime-fp32", "onnxruntime-int8"]
EXECUTION = ExecutionParams(engine="ray", gpu_model=None, retries=0, images=None)


def test_the_local_engine_leaves_nothing_to_adopt_and_does_not_need_ray(checkout: Path) -> None:
    files.write_text(adopt.SWEEP / "tflite-fp32/convert/key", "of an earlier run")
    code = "import sys; from stages import sweep; sweep.main(); print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert adopt.read() == adopt.local(variants())
    assert list(adopt.SWEEP.iterdir()) == list(OTHER_GPUS.iterdir()) == []


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        return None


@pytest.fixture(scope="module")
def object_store(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A bucket of the images, by its address and its folder: Arrow's S3 client reads by plain HEAD and GET."""
    store = tmp_path_factory.mktemp("store")
    shutil.copytree(model / EVALUATION, store / "bucket/photos")
    handler = partial(Quiet, directory=store)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        place = "{}:{}".format(*server.server_address)
        yield (
            f"s3://bucket/photos?scheme=http&region=us-east-1&endpoint_override={place}",
            store / "bucket/photos",
        )
        server.shutdown()


@pytest.fixture(scope="module")
def swept(
    model: Path, nodes: Nodes, object_store: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Checkout:
    """All stages on nodes of a single core, and the images nowhere but in the object store."""
    found = Checkout(tmp_path_factory.mktemp("swept") / "checkout", model, nodes, VARIANTS)
    for image in (found.folder / EVALUATION).glob("*.png"):
        image.unlink()
    found.environment |= KEYS
    found.write("ray", VARIANTS, images=object_store[0])
    found.stages(VARIANTS)
    return found


def same(ours: Checkout, theirs: Checkout, path: Path) -> bool:
    return (ours.folder / path).read_bytes() == (theirs.folder / path).read_bytes()


def counts(checkout: Checkout, name: str) -> Counts:
    evaluation = codec.read(Evaluation, checkout.folder / evaluation_path(name))
    assert evaluation.counts
    return evaluation.counts


def test_the_files_are_those_of_the_local_engine(swept: Checkout, local: Checkout) -> None:
    parts = ("models", "reports")
    ours, theirs = (pack(found.folder, *parts) for found in (swept, local))
    ours = {name: content for name, content in ours.items() if not name.startswith("models/sweep/")}
    assert ours.keys() == theirs.keys()
    differ = {name for name, content in ours.items() if content != theirs[name]}
    clocks = {"convert.json", "convert_system.csv", "evaluate_system.csv", "benchmark.json", "samples.csv"}
    # Nodes are not asked how the baseline's answers depend on the resize.
    differ -= {str(evaluation_path(BASELINE.name))}
    assert counts(swept, BASELINE.name) == counts(local, BASELINE.name)
    assert {Path(name).name for name in differ} <= clocks | {"sweep.json", "gpu_models.json"}
    for name in VARIANTS:
        here, there = (codec.read(Conversion, found.folder / conversion_path(name)) for found in (swept, local))
        assert replace(here, seconds=None) == replace(there, seconds=None)
    here, there = (codec.read(Timing, found.folder / TIMING).variants for found in (swept, local))
    assert list(here) == list(there) == VARIANTS[:3]
    assert {timed.status for timed in here.values()} == {OK}
    assert counts(swept, "tflite-fp32").images == COUNT


def test_a_second_sweep_redoes_nothing(swept: Checkout) -> None:
    before, record = swept.kept(), swept.record()
    assert {Path(name).parts[2:4] for name in before} == {("unlabelled", name) for name in (*VARIANTS, "benchmark")}
    swept.run("sweep")
    assert swept.kept() == before
    assert swept.record() == record


def test_counts_are_the_same_for_more_blocks(
    swept: Checkout,
    local: Checkout,
    nodes: Nodes,
    object_store: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blocks = 3  # a sweep of so few images makes one
    monkeypatch.chdir(swept.folder)
    monkeypatch.setenv(ray.ADDRESS, nodes.cluster.address)
    table = labels.read_table(TABLE)
    rows = list(batches.of_evaluation(table, BATCH))
    decode = partial(decode_batch, object_store[0], PREPARED)
    with ray.joined(load.read(ExecutionParams)) as parts:
        (joined,) = parts.values()
        converted = joined.put(pack(Kept("unlabelled").folder("convert@tflite-fp32"), "models"))
        arguments = ("tflite-fp32", converted, PREPARED, codec.read(Environment, ENVIRONMENT))
        stream = partial(joined.stream, rows, decode, Classifier, *arguments, actors=2)
        answered = batches.in_order(stream(blocks=blocks), table, BATCH)
        made = predict.write(answered, tmp_path / "predictions.csv", "tflite-fp32")
    assert made == counts(swept, "tflite-fp32") == counts(local, "tflite-fp32")
    answers = (local.folder / predictions_path("tflite-fp32")).read_bytes()
    assert (tmp_path / "predictions.csv").read_bytes() == answers


def test_images_are_read_from_an_object_store(swept: Checkout, local: Checkout) -> None:
    assert not list((swept.folder / EVALUATION).glob("*.png"))
    for name in VARIANTS[:3]:
        assert same(swept, local, predictions_path(name))


def test_an_image_that_the_object_store_lacks_is_told(
    object_store: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, _ = object_store
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    gone: Batch = {"index": 0, "files": [f"{COUNT}.png"], "digests": [""], "labels": [0]}
    error = decode_batch(address, PREPARED, gone)["error"]
    assert address in error and f"{COUNT}.png" in error and "execution.images" in error


def test_a_kind_of_address_that_nobody_reads_is_refused_before_anything_is_converted(
    model: Path, nodes: Nodes, tmp_path: Path
) -> None:
    found = Checkout(tmp_path / "checkout", model, nodes, ["tflite-fp32"])
    found.write("ray", ["tflite-fp32"], images="ftp://host/photos")
    told = found.run("sweep", status=1)
    assert "execution.images" in told
    assert not (found.folder / adopt.SWEEP).exists()
    # The rows say it, and nothing of an earlier sweep is adopted.
    reason = found.record().failed["convert@tflite-fp32"]
    assert told.strip().endswith(reason.removeprefix("sweep: ")) and found.record().failed["benchmark"] == reason
    assert reason in found.run("convert", "tflite-fp32", status=1)
    assert list((found.folder / OTHER_GPUS).iterdir()) == []


def test_a_folder_that_nodes_do_not_have_is_told_once_and_before_anything_is_converted(
    model: Path, nodes: Nodes, tmp_path: Path
) -> None:
    found = Checkout(tmp_path / "checkout", model, nodes, ["tflite-fp32", "onnxruntime-int8"])
    found.write("ray", ["tflite-fp32", "onnxruntime-int8"], images="/nowhere/photos")
    output = found.run("sweep", status=1)
    assert output.count("/nowhere/photos") == 1 and len(output.splitlines()) == 1
    assert "/nowhere/photos" in found.record().failed["convert@onnxruntime-int8"]
    assert not (found.folder / adopt.SWEEP).exists()


def test_a_task_that_runs_out_of_memory_is_a_failed_row(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    # To this node's Ray any use of memory is too much.
    full = Nodes(0)
    full.nodes.append(full.add(env_vars={"RAY_memory_usage_threshold": "0.0", "RAY_memory_monitor_refresh_ms": "50"}))
    found = Checkout(tmp_path / "checkout", model, full, ["onnxruntime-int8"])
    found.write("ray", ["onnxruntime-int8"], retries=1)
    try:
        found.run("sweep", status=1)
    finally:
        full.shutdown()
    reason = found.record().failed["convert@onnxruntime-int8"]
    assert "lost 2 times" in reason and "OutOfMemoryError" in reason


QUICK, LATE = FAULTY = ["onnxruntime-int8", "tflite-fp32"]
# Of the sweeps that do not end: the second takes TensorFlow seconds, and nothing depends on how far it came.
UNENDED = [QUICK, "tflite-fp16"]


@pytest.fixture(scope="module")
def large() -> Iterator[Nodes]:
    """Two nodes of two cores, whose workers, drivers and nodes are killed."""
    pytest.importorskip("ray", reason="Ray is not installed (the extra cluster)")
    found = Nodes(2)
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def troubled(model: Path, large: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout that each of the following tests sweeps once more, on from where it finds it."""
    return Checkout(tmp_path_factory.mktemp("troubled") / "checkout", model, large, UNENDED)


def test_after_an_interrupt_a_sweep_ends_at_once_and_joins_no_other_cluster(
    troubled: Checkout, large: Nodes, nodes: Nodes, heeded: None
) -> None:
    running = troubled.start("sweep")
    large.wait("ray::MapWorker")  # while the last variant is still converted
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    # Ray's own words before may have been of the evaluation, and none of another cluster.
    sentence = "error: interrupted: run the same command again, and it goes on where it stopped\n"
    assert (running.returncode, output[-len(sentence) :]) == (1, sentence)
    assert not any(word in output for word in ("Traceback", "Exception", "Found multiple", "Connecting", "Started"))


def conversions(checkout: Checkout) -> dict[str, bytes]:
    """Of each variant the kept convert.json: how long it took would be another number, had it been converted again."""
    kept = checkout.kept().items()
    return {Path(name).parts[3]: content for name, content in kept if Path(name).name == "convert.json"}


@pytest.fixture(scope="module")
def before(troubled: Checkout, large: Nodes) -> dict[str, bytes]:
    """The conversions of when the driver was killed in the middle of an evaluation."""
    large.wait_until_idle("ray::MapWorker")
    running = troubled.start("sweep")
    large.wait("ray::MapWorker")
    running.kill()
    running.communicate()
    large.wait_until_idle("ray::convert")
    assert troubled.record() == adopt.lost(tuple(UNENDED))  # and nothing that could be adopted
    return conversions(troubled)


@dataclass(frozen=True)
class Lost:
    """A checkout after a sweep, what that said, and how many workers were killed."""

    checkout: Checkout
    output: str
    status: int
    killed: int


@pytest.fixture(scope="module")
def lost(troubled: Checkout, before: dict[str, bytes], large: Nodes) -> Lost:
    """After a sweep in which no conversion came to its end."""
    troubled.write("ray", FAULTY, retries=1)
    running = troubled.start("sweep")
    killed: set[int] = set()

    def kill() -> None:
        while running.poll() is None:
            for _, worker in large.workers("ray::convert"):
                worker.send_signal(signal.SIGKILL)
                killed.add(worker.pid)
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    output, _ = running.communicate(timeout=120)
    killer.join()
    after = Checkout(troubled.folder.with_name("lost"), troubled.folder, large, FAULTY)
    return Lost(after, output, running.returncode, len(killed))


def test_a_driver_that_was_killed_goes_on_where_it_was(before: dict[str, bytes], lost: Lost) -> None:
    assert conversions(lost.checkout) == {QUICK: before[QUICK]}
    assert not list((lost.checkout.folder / adopt.SWEEP).rglob("*.tmp*"))
    timing = lost.checkout.kept()["models/sweep/unlabelled/benchmark/benchmark/reports/benchmark.json"]
    assert codec.decode(Timing, timing, "benchmark.json").blocks == interleave.BLOCKS


def test_a_worker_that_is_always_lost_is_a_failed_row(lost: Lost) -> None:
    found, unit = lost.checkout, f"convert@{LATE}"
    assert (lost.status, lost.killed, list(found.record().failed)) == (1, 2, [unit])
    reason = found.record().failed[unit]
    assert "lost 2 times" in reason
    assert f"{unit} failed: {reason}" in lost.output
    assert reason in found.run("convert", LATE, status=1)
    found.run("evaluate", LATE)
    found.run("benchmark")
    row = codec.read(Conversion, found.folder / conversion_path(LATE))
    assert row == Conversion(Variant.parse(LATE), Status("failed", reason))
    assert codec.read(Evaluation, found.folder / evaluation_path(LATE)).status.state == "skipped"


@pytest.fixture(scope="module")
def recovered(troubled: Checkout, lost: Lost, large: Nodes) -> Checkout:
    """After the next sweep, which lost a worker that converts, and a node that classifies."""
    troubled.write("ray", FAULTY)
    large.wait_until_idle("ray::MapWorker")
    running = troubled.start("sweep")
    _, worker = large.wait("ray::convert")
    worker.send_signal(signal.SIGKILL)
    node, _ = large.wait("ray::MapWorker")
    large.cluster.remove_node(node, allow_graceful=False)
    large.nodes.remove(node)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    troubled.adopt(FAULTY)
    return troubled


def test_a_killed_worker_and_a_lost_node_change_nothing(recovered: Checkout, local: Checkout) -> None:
    assert recovered.record().failed == {}
    for name in FAULTY:
        for path in (predictions_path(name), evaluation_path(name)):
            assert same(recovered, local, path)


def test_the_next_sweep_converts_what_was_lost_and_nothing_else(recovered: Checkout, lost: Lost) -> None:
    after = conversions(recovered)
    assert after == conversions(lost.checkout) | {LATE: after[LATE]}


def test_a_gpu_model_that_no_node_has_is_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ray.ADDRESS, nodes.cluster.address)
    setting = ExecutionParams(engine="ray", gpu_model="H100", retries=0, images=None)
    error = refused(ray.joined(setting).__enter__)
    assert named(error, "key", "gpu_model") == ("unknown-gpu-model", "execution.gpu_model", "H100")


def test_each_part_of_a_cluster_runs_its_tasks_on_its_own_gpu_model(
    mixed: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here() -> str:
        import ray

        return str(ray.get_runtime_context().get_node_labels().get("ray.io/accelerator-type"))

    monkeypatch.setenv(ray.ADDRESS, mixed.cluster.address)
    unknown = mixed.add(num_gpus=1)
    with ray.joined(EXECUTION) as parts:
        tasks = [(name, part.result(part.start(here))) for name, part in parts.items() for _ in range(2)]
    mixed.cluster.remove_node(unknown)
    assert tasks == [(name, name) for name in ("H100", "H100", "T4", "T4")] + [("unlabelled", "None")] * 2


@pytest.fixture(scope="module")
def swept_on_two(model: Path, mixed: Nodes, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Swept on both GPU models, after a first sweep that lost a conversion on the T4."""
    found = Checkout(tmp_path_factory.mktemp("mixed") / "checkout", model, mixed, ONNX)
    found.write("ray", ONNX, retries=0)
    found.run("environment")
    running = found.start("sweep")
    _, worker = mixed.wait("ray::convert", mixed.nodes[0])
    worker.send_signal(signal.SIGKILL)
    running.communicate(timeout=300)
    assert running.returncode == 1
    shutil.copytree(found.folder, found.folder.with_name("first"))
    found.run("sweep")
    return found


def rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Row]:
    """Of the summary, by the GPU that each row was measured on and its variant."""
    monkeypatch.chdir(folder)
    for unit in (*(f"{stage}@{name}" for name in ONNX for stage in ("convert", "evaluate")), adopt.BENCHMARK):
        adopt.read().adopt(unit)
    made = summary.build(ONNX)
    return {(made.environments[row.device].machine.name, row.name): row for row in made.rows}


def test_a_variant_that_one_gpu_model_loses_is_a_failed_row_there_alone(
    swept_on_two: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rows(swept_on_two.folder.with_name("first"), monkeypatch)
    ((place, name),) = [key for key, row in found.items() if not row.status.ok]
    status = found[place, name].status
    assert (place, status.state, status.stage) == ("NVIDIA T4", "failed", "convert")
    assert "lost 1 time" in str(status.reason)
    assert adopt.read().failed == {}


def test_a_mixed_cluster_makes_rows_for_each_gpu_model(
    swept_on_two: Checkout, local: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rows(swept_on_two.folder, monkeypatch)
    assert list(found) == [(gpu, name) for gpu in ("NVIDIA H100", "NVIDIA T4") for name in ONNX]
    assert {row.status for row in found.values()} == {OK}
    assert len({row.speeds[0].latency.mean_ms for row in found.values()}) == 4
    theirs = counts(local, "onnxruntime-int8")
    for gpu in ("NVIDIA H100", "NVIDIA T4"):
        accuracy = found[gpu, "onnxruntime-int8"].accuracy
        assert accuracy and accuracy.top1.correct == theirs.top1_correct
    assert adopt.read().gpu_model == "H100"


def test_the_next_sweep_does_what_was_lost_and_nothing_else(
    swept_on_two: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, after = (
        pack(folder, str(adopt.SWEEP)) for folder in (swept_on_two.folder.with_name("first"), swept_on_two.folder)
    )
    changed = {Path(name).parts[2:4] for name in after if after[name] != first.get(name)}
    assert changed < {("T4", "benchmark"), *(("T4", name) for name in ONNX)} and len(changed) == 2
    before, now = (
        codec.read(adopt.Sweep, folder / adopt.SWEEP_RECORD)
        for folder in (swept_on_two.folder.with_name("first"), swept_on_two.folder)
    )
    assert before == now  # so that no stage of the home model runs again


def test_naming_the_other_gpu_model_adopts_what_is_kept_of_it_and_removes_the_rest(
    swept_on_two: Checkout, mixed: Nodes, tmp_path: Path
) -> None:
    found = Checkout(tmp_path / "checkout", swept_on_two.folder, mixed, ONNX)
    before = found.kept()
    found.write("ray", ONNX, retries=0, gpu_model="T4")
    found.run("environment")
    found.run("sweep")
    assert found.kept() == {name: content for name, content in before.items() if Path(name).parts[2] == "T4"}
    assert found.record().gpu_model == "T4"
    assert list((found.folder / OTHER_GPUS).iterdir()) == []
