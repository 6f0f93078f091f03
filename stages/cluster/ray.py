"""Work on a Ray cluster, which places, moves, retries and streams it; the only module that imports Ray.

Without Ray installed it can be imported, and says what to install when a cluster is asked for.
"""

import logging
import math
import os
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stages.cluster import code
from stages.cluster.batches import Answered, Batch, Decoded
from stages.contracts.environment import Environment
from stages.core import errors
from stages.core.errors import PipelineError
from stages.core.shown import say
from stages.params.execution import ExecutionParams
from stages.runtimes import host

ADDRESS = "RAY_ADDRESS"
# The label that Ray gives a node by its GPU.
GPU_MODEL = "ray.io/accelerator-type"
# What stands for the GPU model where Ray knows none.
UNLABELLED = "unlabelled"
# What an object takes that waits for the cores its model uses, and who decodes beside it on nodes of a single core.
HALF = 0.5
# What a task takes that has next to nothing to do. Not none: the driver's node offers none, and may lack the images.
LITTLE = 0.01
# Until a cluster's head has answered; Ray itself would try for ever.
ANSWER_S = 5
# Items that travel together: Ray takes some 30 ms of a core for each task, a tenth of what 128 images take. Of many it
# takes more: the driver spends 13 ms of its own on each task, and would hold up a large cluster.
ITEMS = (128, 512)
# At least so many tasks for each core if they are small, so that all end at about the same time.
PARTS = 32
# Of decoded images that wait for one object that answers.
AHEAD_BYTES = 1 << 29

# Ray Data's settings are those of the whole process, and evaluations are begun by several threads.
_BEGINNING = threading.Lock()

# As Ray tells of it.
Node = Mapping[str, Any]


@contextmanager
def joined(setting: ExecutionParams) -> Iterator[dict[str, "Cluster"]]:
    """The cluster that RAY_ADDRESS names, or one on this machine for so long, by GPU model, the primary one first."""
    if not find_spec("ray"):
        raise PipelineError(
            "`execution.engine` is ray, but Ray is not installed: run `make repro ENGINE=ray`, or "
            '`pip install ".[cluster]"`',
            code="ray-missing",
            key="execution.engine",
        )
    # Read once, when Ray is imported. Without it Ray tries for ever what needs more memory than there is.
    os.environ.setdefault("RAY_task_oom_retries", str(setting.retries))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # After Ctrl-C a thread that is late would join any other cluster of this machine, or start one.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    import ray

    address = os.environ.get(ADDRESS)
    options: dict[str, Any] = {} if address else {"include_dashboard": False}
    with tempfile.TemporaryDirectory() as package:  # sent to the cluster at once
        code.pack(Path(package))
        try:
            _listens(address or "")
            ray.init(address or "local", runtime_env={"working_dir": package}, logging_level="error", **options)
        except (OSError, RuntimeError, ValueError, OverflowError, ray.exceptions.RayError) as error:
            place = f"at {address}, which {ADDRESS} names" if address else "on this machine"
            raise PipelineError(
                f"there is no Ray cluster to join {place} ({errors.describe(error)}): start one with "
                f"`ray start --head`, set RAY_AUTH_MODE=token if it wants a token, or unset {ADDRESS} for one on this "
                "machine",
                code="no-cluster",
                address=address,
            ) from None
    try:
        yield _parts(setting, [node for node in ray.nodes() if node["Alive"]])
    finally:
        ray.shutdown()


def _listens(address: str) -> None:
    """OSError if nobody does at HOST:PORT; Ray knows what other kinds of address mean."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_S).close()


def _parts(setting: ExecutionParams, nodes: Sequence[Node]) -> dict[str, "Cluster"]:
    """The nodes that run models, by GPU model in the order of names; PipelineError if none has the one that is set."""
    models = by_gpu_model(nodes)
    chosen = [setting.gpu_model] if setting.gpu_model else list(models)
    if not set(chosen) <= set(models):
        raise PipelineError(
            f"no node of the Ray cluster has the GPU model {setting.gpu_model}; those there are: {', '.join(models)}: "
            "set execution.gpu_model to one of them, or to null",
            code="unknown-gpu-model",
            key="execution.gpu_model",
            gpu_model=setting.gpu_model,
        )
    cores = [count for node in nodes if (count := node["Resources"].get("CPU", 0)) >= 1]
    return {name: Cluster(models[name], cores, selector(name, models), setting.retries) for name in chosen}


def describe(setting: ExecutionParams, threads: int | None, variants: Sequence[str]) -> dict[str, Environment]:
    """The environment of each GPU model of the cluster, the primary one first; `threads` as benchmark.threads."""
    with joined(setting) as parts:
        tasks = {name: nodes.start(described, threads, variants) for name, nodes in parts.items()}
        return {name: parts[name].result(task) for name, task in tasks.items()}


def described(threads: int | None, variants: Sequence[str] | None = None) -> Environment:
    """Of the node that this runs on, as its models are run; it makes the environments of those variants' runtimes."""
    forget_threads()
    return host.describe(threads, variants)


def forget_threads() -> None:
    """Ray allows a library as many threads as a task has cores by name; models are run as on a single machine."""
    os.environ.pop("OMP_NUM_THREADS", None)


def by_gpu_model(nodes: Sequence[Node]) -> dict[str, list[Node]]:
    """Nodes with a GPU by its model, in the order of the names; where no node has a GPU, all together."""
    with_gpu = [node for node in nodes if node["Resources"].get("GPU")]
    models: dict[str, list[Node]] = {}
    for node in with_gpu:
        models.setdefault(node["Labels"].get(GPU_MODEL, UNLABELLED), []).append(node)
    return dict(sorted(models.items())) or {UNLABELLED: list(nodes)}


def selector(name: str, models: Iterable[str]) -> dict[str, str]:
    """The labels of the nodes that have this one of the GPU models."""
    if name != UNLABELLED:
        return {GPU_MODEL: name}
    others = [other for other in models if other != UNLABELLED]
    return {GPU_MODEL: f"!in({','.join(others)})"} if others else {}


class Cluster:
    """The nodes of one GPU model in a Ray cluster that this process has joined."""

    def __init__(self, nodes: Sequence[Node], cores: Sequence[float], labels: Mapping[str, str], retries: int) -> None:
        """Every task runs on a node with these labels; but any node decodes, and `cores` are those of all."""
        import ray

        self._ray = ray
        self._retries = retries
        self._labels = {"label_selector": dict(labels)} if labels else {}
        self._gpus = int(sum(node["Resources"].get("GPU", 0) for node in nodes))
        self._cores = max(node["Resources"].get("CPU", 1) for node in nodes)
        self._all_cores = sum(cores)
        # Ray keeps as many processes as there are free cores; with two to a core it would end and start them for ever.
        self._decoder = 1 if min(cores, default=1) >= 2 else HALF
        # How many models may be at work at once: without GPUs each takes HALF a core, and leaves room for a decoder.
        self.slots = self._gpus or max(1, sum(node["Resources"].get("CPU", 0) >= 1 for node in nodes))

    def put(self, value: Any) -> Any:
        """A value where every task can `fetch` it."""
        return self._ray.put(value)

    def start(self, function: Callable[..., Any], *arguments: Any, alone: bool = False) -> Any:
        """Call a function in a fresh process that has a GPU for itself; `alone`, where there is none, all cores.

        Returns what `result` and `finished` take.
        """
        share = {"num_gpus": 1} if self._gpus else {"num_cpus": self._cores if alone else 1}
        # What it raises of its own is an answer; only a lost process or node is tried again.
        options = share | self._labels | {"max_calls": 1, "max_retries": self._retries, "retry_exceptions": False}
        return self._ray.remote(**options)(function).remote(*arguments)

    def beside(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a short function on any node that works, beside whatever else it does; returns what `result` takes."""
        return self._ray.remote(num_cpus=LITTLE, max_retries=self._retries)(function).remote(*arguments)

    def finished(self, tasks: Sequence[Any]) -> Iterator[Any]:
        """The tasks, in the order in which they end."""
        waiting = list(tasks)
        while waiting:
            (done, *_), waiting = self._ray.wait(waiting)
            yield done

    def result(self, task: Any) -> Any:
        """What the function returned; PipelineError with the reason if it failed, or Ray gave it up."""
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            raise self._failure(error) from None

    def prepare(self) -> None:
        """Have Ray Data start processes of its own, which takes seconds, while there is something else to wait for."""
        from ray import data

        _quiet()
        # Whatever goes wrong here does so again where it matters.
        with suppress(self._ray.exceptions.RayError):
            data.from_items([{"index": 0}]).map(_same, num_cpus=0).materialize()

    def blocks(self, items: int) -> int:
        """In how many parts so many items are best shared out among those who decode them."""
        least, most = ITEMS
        each = min(most, max(least, items // max(1, int(PARTS * self._all_cores))))
        return math.ceil(items / each)

    def stream(
        self,
        rows: Sequence[Batch],
        decode: Callable[[Batch], Decoded],
        answer: type,
        *arguments: Any,
        actors: int,
        blocks: int,
    ) -> Iterator[Answered]:
        """What objects answer(*arguments) make of rows that `decode` prepares on CPUs, in any order, some ahead.

        They travel in so many blocks.
        """
        from ray import data

        # A bound of its own, so that more images or more memory in the nodes do not make more of it.
        ahead = data.ExecutionResources.for_limits(object_store_memory=AHEAD_BYTES * actors)
        # Without the zero Ray takes a core for each, and on nodes with no more cores than GPUs nobody would decode.
        share = {"num_gpus": 1, "num_cpus": 0} if self._gpus else {"num_cpus": HALF}
        # All start at once; a pool that grows by need would start them one after the other, seconds apart.
        pool = data.ActorPoolStrategy(size=actors)
        lost: dict[str, Any] = {"max_restarts": self._retries, "max_task_retries": self._retries}
        with _BEGINNING, warnings.catch_warnings():
            _quiet().execution_options.resource_limits = ahead
            # Ray 2.64 will take these bounds another way, which 2.60 does not have.
            warnings.simplefilter("ignore", DeprecationWarning)
            decoded = data.from_items(list(rows), override_num_blocks=blocks).map(
                decode, num_cpus=self._decoder, max_retries=self._retries
            )
            answers = decoded.map(answer, fn_constructor_args=arguments, compute=pool, **share, **self._labels, **lost)
        try:
            yield from answers.iter_rows()
        except self._ray.exceptions.RayError as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> PipelineError:
        if isinstance(error, self._ray.exceptions.RayTaskError):
            cause = error.cause
            if not isinstance(cause, PipelineError):
                say(str(error), to=sys.stderr)
            return cause if isinstance(cause, PipelineError) else PipelineError(errors.describe(cause), "unexpected")
        if isinstance(error, self._ray.exceptions.RuntimeEnvSetupError):
            return PipelineError(
                f"a node could not take the code of this pipeline ({errors.describe(error)}): see that all nodes run "
                "the same Python and Ray as this machine",
                code="code-refused",
            )
        tries = self._retries + 1
        return PipelineError(
            f"its worker was lost {tries} time{'s' * (tries > 1)}, as often as execution.retries allows, the last time "
            f"by {errors.describe(error)}",
            code="worker-lost",
            tries=tries,
        )


def _quiet() -> Any:
    """Ray Data's settings for this process, changed to print nothing."""
    from ray import data

    context = data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    # What fails is told by `_failure`; after Ctrl-C it would ask to report the end of the cluster as a bug of Ray's.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return context


def _same(row: Mapping[str, int]) -> Mapping[str, int]:
    return row


def fetch(value: Any) -> Any:
    """What `Cluster.put` took, in a task."""
    import ray

    return ray.get(value)
