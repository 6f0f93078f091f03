"""What a server tells of a request that it does not answer."""

import asyncio
import json
import logging
import threading

import pytest
from mlflow.exceptions import MlflowException

from stages.serving.gate import BOUND, Gate, refusal


def test_a_refusal_is_one_sentence_whatever_mlflow_puts_before_it() -> None:
    error = refusal("send a JPEG", "BAD_REQUEST")
    assert isinstance(error, MlflowException)
    error.message = "Failed to predict data 'five megabytes'. \nError: send a JPEG"
    assert json.loads(error.serialize_as_json())["message"] == "send a JPEG"
    assert error.get_http_status_code() == 400


def test_a_mistake_in_the_model_goes_to_the_log_and_not_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(MlflowException) as caught, Gate().request():
        raise KeyError("/secret/path")
    assert caught.value.get_http_status_code() == 500
    assert "secret" not in caught.value.serialize_as_json()
    assert "KeyError: '/secret/path'" in caplog.text


def test_requests_beyond_the_bound_are_refused_at_once_and_places_come_free() -> None:
    """As MLflow's server runs them: in the threads of its event loop, of which it has six on two cores."""
    hold, within = threading.Event(), threading.Semaphore(0)

    async def serve() -> list[BaseException | None]:
        gate = Gate()

        def answer() -> None:
            with gate.request():
                within.release()
                assert hold.wait(60)

        waiting = [asyncio.create_task(asyncio.to_thread(answer)) for _ in range(BOUND)]
        for _ in range(BOUND):
            await asyncio.to_thread(within.acquire)
        (one_more,) = await asyncio.gather(asyncio.to_thread(answer), return_exceptions=True)
        hold.set()
        answered = await asyncio.gather(*waiting, asyncio.to_thread(answer))
        assert answered == [None] * (BOUND + 1)
        return [one_more]

    (refused,) = asyncio.run(serve())
    assert isinstance(refused, MlflowException)
    assert refused.get_http_status_code() == 429
