"""Requests that a served model does not answer: one sentence with an HTTP status, and a bound on those that wait."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore

LOG = logging.getLogger(__name__)
# Requests answered or waiting at once: the next one is answered 429 at once, and not after a minute.
BOUND = 64


def refusal(sentence: str, status: str) -> Exception:
    """What MLflow's server answers with this sentence alone; `status` is MLflow's name for an HTTP status.

    Of any other exception it sends the stack trace, with the paths of the machine.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    class Refusal(MlflowException):
        @property
        def message(self) -> str:
            return sentence

        @message.setter
        def message(self, longer: str) -> None:
            """MLflow would put the whole request before the sentence."""

    return Refusal(sentence, databricks_pb2.ErrorCode.Value(status))


class Gate:
    """Lets BOUND requests in and refuses those beyond; what fails inside becomes one sentence."""

    def __init__(self) -> None:
        """In a server's event loop it asks for a thread more than BOUND, whose request is the one to be refused."""
        self._places = BoundedSemaphore(BOUND)
        try:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(BOUND + 1))
        except RuntimeError:
            return  # loaded by a program of one's own

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request's place."""
        if not self._places.acquire(blocking=False):
            raise refusal(f"{BOUND} requests wait already: send this one again later", "RESOURCE_EXHAUSTED")
        try:
            yield
        except ValueError as error:
            raise refusal(str(error), "BAD_REQUEST") from error
        except Exception as error:
            LOG.exception("the model failed on a request")
            raise refusal("the model failed on this request: the server's log says why", "INTERNAL_ERROR") from error
        finally:
            self._places.release()
