"""Answers requests in a runtime's interpreter: `python -m stages.runtimes.worker NAME DESCRIPTOR`.

The descriptor is one end of a socket pair, over which a request and its answer are a line of JSON each. Standard
output and error are its log, since libraries print. What a verb needs is imported when it is asked for.
"""

import gc
import os
import platform
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from ..contracts import messages
from ..contracts.conversion import ConvertJob, Scalar
from ..contracts.environment import Discovery, Machine
from ..contracts.evaluation import Counts
from ..contracts.timing import Memory, WarmUp
from ..core import process
from ..core.errors import PipelineError, describe, trace
from . import loading, registry
from .contract import Convert, Discover, Interface, Open, Serve, Session, infer

if TYPE_CHECKING:
    from .timer import Timer


class Worker:
    """One runtime, and the model that it has loaded; its methods are the verbs, but for `answer`."""

    def __init__(self, runtime: str) -> None:
        """Nothing is imported yet."""
        self._runtime = runtime
        self._order: messages.LoadOrder | None = None
        self._session: Session | None = None

    def answer(self, request: messages.Request) -> messages.Answer:
        """The result of a verb, or why there is none; an unexpected error's traceback goes to the log."""
        try:
            verb, kind = self._verb(request.verb)
            arguments = msgspec.json.decode(request.arguments, type=kind)
            result = verb(arguments) if kind else verb()
            return messages.Answer(request.id, True, messages.raw(result, request.verb))
        except PipelineError as error:
            failure = messages.Failure("refused", str(error), error.code)
        except Exception as error:
            trace(error)
            failure = messages.Failure("unexpected", describe(error))
        return messages.Answer(request.id, False, error=failure)

    def discover(self, machine: Machine) -> Discovery:
        """What this machine has for the runtime."""
        return cast(Discover, self._module("discover")).discover(machine)

    def convert(self, job: ConvertJob) -> messages.Converted:
        """Convert, tell the seconds that it takes, imports included, and compare what came of it."""
        start = time.perf_counter()
        module, options = cast(Convert, self._module("convert")), loading.options(self._runtime, job.options)
        proof = module.convert(job, options)
        seconds = time.perf_counter() - start
        if proof.kind != "saved_model":  # a copy of what the others are compared with
            proof = replace(proof, facts=proof.facts | self._compared(job, options))
        return messages.Converted(seconds, proof, loading.defaults(self._runtime, job.options))

    def _compared(self, job: ConvertJob, options: Any) -> dict[str, Scalar]:
        from . import comparison

        comparison.refuse_small(job)
        module = cast(Open, self._module("session"))
        return comparison.compare(job, module.open_session(Path(job.target), job.precision, options, None))

    def describe(self, folder: str) -> Interface:
        """The tensors of a converted model."""
        return cast(Serve, self._module("serve")).describe(Path(folder))

    def load(self, order: messages.LoadOrder) -> messages.Loaded:
        """Load a variant's model; the import of its library counts, as a fresh process pays for both."""
        gc.disable()  # a collection within a call would count as its time
        start = time.perf_counter()
        self._session = loading.load(Path(order.folder), order.threads)
        self._order = order
        return messages.Loaded((time.perf_counter() - start) * 1000)

    def predict(self, order: messages.PredictOrder) -> Counts:
        """Classify a set of images, and write the table of predictions."""
        from . import predict

        gc.enable()
        session, loaded = self._loaded()
        return predict.predict(session, loaded.preprocessing, order, name=Path(loaded.folder).name)

    def probe(self, order: messages.ProbeOrder) -> messages.Probed:
        """Classify a sample that is prepared in other ways."""
        from . import probe

        session, _ = self._loaded()
        return probe.probe(session, order)

    def infer(self, order: messages.InferOrder) -> int:
        """Probabilities of images that come and go as files; how many there are."""
        session, _ = self._loaded()
        images = np.load(order.images)
        np.save(order.target, infer(session, images))
        return len(images)

    def warm_up(self, order: messages.BatchOrder) -> WarmUp:
        """Call until the times are stable."""
        return self._timer.warm_up(order.batch_size)

    def block(self, order: messages.BlockOrder) -> messages.Block:
        """Timed calls."""
        return self._timer.block(order.batch_size, order.calls)

    def prove(self, order: messages.BatchOrder) -> None:
        """Check that the converted model answers."""
        self._timer.prove(order.batch_size)

    def memory(self) -> Memory:
        """The most that it held so far."""
        return self._timer.memory()

    @cached_property
    def _timer(self) -> "Timer":
        from .timer import Timer

        session, order = self._loaded()
        return Timer(session, order.preprocessing)

    def _loaded(self) -> tuple[Session, messages.LoadOrder]:
        if self._session is None or self._order is None:
            raise PipelineError("no model is loaded: call `load` first", code="not-loaded")
        return self._session, self._order

    def _module(self, part: str) -> Any:
        return registry.module(self._runtime, part)

    def _verb(self, name: str) -> tuple[Callable[..., Any], Any]:
        if name not in VERBS:
            raise PipelineError(
                f"a worker knows no verb {name!r}: use one of {', '.join(VERBS)}",
                code="unknown-verb",
                verb=name,
            )
        return getattr(self, name), VERBS[name]


# By verb the type of its arguments; None for one that takes none.
VERBS = {
    "discover": Machine,
    "convert": ConvertJob,
    "describe": str,
    "load": messages.LoadOrder,
    "predict": messages.PredictOrder,
    "probe": messages.ProbeOrder,
    "infer": messages.InferOrder,
    "warm_up": messages.BatchOrder,
    "block": messages.BlockOrder,
    "prove": messages.BatchOrder,
    "memory": None,
}


def serve(connection: socket.socket, runtime: str) -> None:
    """Say hello, and answer one request after the other until the other end is closed."""
    worker = Worker(runtime)
    hello = messages.Hello(messages.PROTOCOL, runtime, platform.python_version(), os.getpid())
    with connection.makefile("rb") as lines, suppress(BrokenPipeError):
        connection.sendall(msgspec.json.encode(hello) + b"\n")
        for line in lines:
            answer = worker.answer(msgspec.json.decode(line, type=messages.Request))
            connection.sendall(msgspec.json.encode(answer) + b"\n")


def main() -> None:
    """Serve on the inherited socket, which what this process starts does not inherit."""
    process.end_with_parent()
    runtime, descriptor = sys.argv[1], int(sys.argv[2])
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=descriptor) as connection:
        serve(connection, runtime)


if __name__ == "__main__":
    main()
