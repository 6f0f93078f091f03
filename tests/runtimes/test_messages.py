"""Every sentence of the worker and its client, seen once."""

from collections.abc import Callable

import msgspec
import pytest

from stages.contracts.messages import PROTOCOL, Hello, Request
from stages.core.errors import PipelineError
from stages.runtimes import client
from stages.runtimes.client import Client
from stages.runtimes.worker import Worker
from tests.fixtures.errors import assert_helps, refused


def answered(verb: str) -> PipelineError:
    """What the worker answers to a verb without arguments."""
    failure = Worker("tflite").answer(Request(1, verb, msgspec.Raw(b"null"))).error
    assert failure and failure.kind == "refused"
    return PipelineError(failure.message, failure.code)


def greeted(line: bytes) -> PipelineError:
    """What the client says of a worker's first line."""
    with Client("tflite") as found:
        found._read = lambda: line  # type: ignore[method-assign]
        return refused(lambda: found.hello)


SENTENCES: dict[str, tuple[str, Callable[[], PipelineError]]] = {
    "unknown-verb": ("'answer'", lambda: answered("answer")),
    "not-loaded": ("no model", lambda: answered("memory")),
    "worker-protocol": ("tflite", lambda: greeted(msgspec.json.encode(Hello(PROTOCOL + 1, "tflite", "3.10", 1)))),
    "worker-garbage": ("tflite", lambda: greeted(b"Segmentation fault")),
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_sentence_names_its_place_and_a_remedy(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PROGRAM", ("-c", ""))
    place, make = SENTENCES[code]
    error = make()
    assert error.code == code
    assert_helps(error, place)
