"""Starts a runtime's worker, asks it, and ends it; one that dies or talks nonsense becomes a sentence.

It waits for an answer as long as that takes, since engines are built for minutes: only the end is given up.
"""

import importlib
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TypeVar

import msgspec

from ..contracts import messages
from ..contracts.messages import PROTOCOL, Answer, Failure, Hello, Request
from ..contracts.variant import runtime_of
from ..core import process
from ..core.errors import PipelineError

# What an interpreter is to do, before the runtime's name and the number of the socket's descriptor.
PROGRAM = ("-m", "stages.runtimes.worker")
CHECKOUT = Path(__file__).parents[2]
# Of a line that is no message, as an error repeats it.
SHOWN_BYTES = 80

Result = TypeVar("Result")


class Client:
    """A fresh worker of one edition of a runtime, which answers one request after the other until it is closed."""

    def __init__(self, edition: str) -> None:
        """Start the process in its own environment if it has one, and wait for nothing: several start side by side."""
        runtime = runtime_of(edition)
        self._own = own = _environments().interpreter(edition)
        variables = _environments().variables(runtime, own, CHECKOUT) if own else _variables()
        self._runtime = edition
        self._requests = 0
        self._hello: Hello | PipelineError | None = None
        ours, theirs = socket.socketpair()
        self._socket = ours
        command = [str(own or sys.executable), *PROGRAM, runtime, str(theirs.fileno())]
        with theirs, process.ctrl_c_blocked():
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=variables, pass_fds=[theirs.fileno()]
            )
        self._lines = ours.makefile("rb")

    @property
    def hello(self) -> Hello:
        """What the worker says of itself when it is up; PipelineError if it is none of this version."""
        self._hello = self._hello or self._greeting()
        if isinstance(self._hello, PipelineError):
            raise self._hello
        return self._hello

    def wait(self) -> None:
        """Wait until the worker is up, or is gone; why, the first request tells."""
        with suppress(PipelineError):
            _ = self.hello

    def ask(self, verb: str, arguments: object, kind: type[Result]) -> Result:
        """The answer to one request, decoded as `kind`; PipelineError with the worker's reason, or how it ended."""
        _ = self.hello
        self._requests += 1
        request = Request(self._requests, verb, messages.raw(arguments, verb))
        with suppress(OSError):  # its end shows when the answer is read
            self._socket.sendall(msgspec.json.encode(request) + b"\n")
        line = self._read()
        try:
            answer = msgspec.json.decode(line, type=Answer)
            if answer.id == request.id and answer.error is None:
                return msgspec.json.decode(answer.result, type=kind)
        except msgspec.MsgspecError:
            raise self._garbage(line) from None
        raise self._failed(answer.error) if answer.error else self._garbage(line)

    def close(self, grace_s: float = 0) -> None:
        """End the process, which has so many seconds to leave by itself, and wait until it holds nothing any more."""
        self._lines.close()
        self._socket.close()
        self._end(grace_s)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(process.GRACE_S if kind is None else 0)

    def _greeting(self) -> Hello | PipelineError:
        """The first line, which comes once."""
        try:
            line = self._read()
            hello = msgspec.json.decode(line, type=Hello)
        except PipelineError as error:
            return error
        except msgspec.MsgspecError:
            return self._garbage(line)
        if hello.protocol == PROTOCOL:
            return hello
        return PipelineError(
            f"the worker of {self._runtime} speaks protocol {hello.protocol}, and this version speaks {PROTOCOL}: "
            "put the same version of this pipeline into its environment",
            code="worker-protocol",
            runtime=self._runtime,
            protocol=hello.protocol,
        )

    def _read(self) -> bytes:
        """The next line; PipelineError tells how the process ended if there is none, or half of one."""
        with suppress(OSError, ValueError):  # the latter where it was closed
            line = self._lines.readline()
            if line.endswith(b"\n"):
                return line
        sentence = process.ending(self._end(process.GRACE_S))
        if self._own and self._hello is None:
            sentence += (
                f" before it was up: `python -m stages env check` tells whether the environment of {self._runtime} is "
                "whole; once it is removed, the next run makes it anew"
            )
        raise PipelineError(sentence, code="worker-ended", runtime=self._runtime)

    def _end(self, grace_s: float) -> int | None:
        def wait(seconds: float) -> int | None:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(seconds)
            return None

        return process.end(wait, self._process.kill, grace_s)

    def _failed(self, failure: Failure) -> PipelineError:
        code = failure.code or f"worker-{failure.kind}"
        return PipelineError(failure.message, code=code, runtime=self._runtime)

    def _garbage(self, line: bytes) -> PipelineError:
        return PipelineError(
            f"the worker of {self._runtime} sent a line that is no message of this version ({line[:SHOWN_BYTES]!r}): "
            "put the same version of this pipeline into its environment",
            code="worker-garbage",
            runtime=self._runtime,
        )


def _environments() -> ModuleType:
    """By its name, as the runtimes are: which environment it is of stands in each variant's digest, and another entry
    in the registry is to convert nothing of the others again.
    """
    return importlib.import_module(f"{__package__}.environments")


def _variables() -> dict[str, str]:
    """Ours, in which Python finds this checkout first."""
    places = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places)}
