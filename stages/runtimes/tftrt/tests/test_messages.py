"""Every sentence of this runtime for a user, once: it names its place and a remedy."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from stages.core.errors import PipelineError
from stages.runtimes.shared.saved_model import SavedModelSession
from stages.runtimes.tftrt import profile, proof
from stages.runtimes.tftrt.options import Options
from stages.runtimes.tftrt.session import TFTRTSession
from stages.runtimes.tftrt.tests.test_proof import Op, engine, job, link
from tests.fixtures.errors import assert_helps, refused


def check(ops: list[Op], engines: Any, precision: str = "fp16") -> PipelineError:
    return refused(proof.check_engines, ops, engines, job(precision), Options())


def test_a_proof_that_fails_names_what_and_a_remedy() -> None:
    whole = [engine(1), engine(8)]
    assert_helps(check([], {}), "tftrt.minimum_segment_size")
    assert_helps(check([Op(), Op()], {"e": whole}), "1 of the 2 parts")
    assert_helps(check([Op()], {"e": whole}, "int8"), "calibration images")
    assert_helps(check([Op()], {"TRTEngineOp_0": [engine(8)]}), "TRTEngineOp_0")


def test_another_tensorrt_names_both_versions_and_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    link(monkeypatch, (8, 4, 3), (7, 2, 3))
    error = refused(proof.tensorrt_versions)
    assert_helps(error, "8.4.3")
    assert "7.2.3" in str(error) and "stages env check" in str(error)
    assert "tensorflow.compiler.tf2tensorrt" in sys.modules


def test_a_fallback_names_the_batch_and_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in: Any = object.__new__(TFTRTSession)  # that has loaded nothing
    stand_in._count, stand_in._batch_sizes, stand_in._tf = 3, (1, 4), None
    monkeypatch.setattr(profile, "steps", lambda tf, call: set())
    assert_helps(refused(stand_in.prove), "batch of 3")

    class AbortedError(Exception):
        pass

    def abort(self: object) -> None:
        raise AbortedError("disabled")

    stand_in._tf = SimpleNamespace(errors=SimpleNamespace(AbortedError=AbortedError))
    monkeypatch.setattr(SavedModelSession, "run", abort)
    assert_helps(refused(stand_in.run), "batch of 3")
