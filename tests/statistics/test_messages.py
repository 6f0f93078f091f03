"""Every sentence of this room for a user, once: it names its place and a remedy."""

from pathlib import Path

import pytest

from stages.contracts.timing import SAMPLES, Series
from stages.core.errors import PipelineError
from stages.statistics import summary
from stages.statistics.per_class import CLASSES, ClassReport
from tests.fixtures.records import Results


def calls_missing(results: Results) -> None:
    del results.calls[Series("tflite-int8", 1, "latency")]
    results.write_timings()
    summary.build(("tflite-int8",))


def classes_missing(results: Results) -> None:
    ClassReport.read("tflite-int8")


@pytest.mark.parametrize(("cause", "place"), [(calls_missing, SAMPLES), (classes_missing, CLASSES)])
def test_an_error_names_its_place_and_a_remedy(checkout: Path, cause: object, place: Path) -> None:
    results = Results()
    results.ok("tflite-int8", [0, 0, 0, 0], 2.0)
    assert callable(cause)
    with pytest.raises(PipelineError) as caught:
        cause(results)
    print(caught.value)
    assert str(place) in str(caught.value) and "tflite-int8" in str(caught.value)
    assert "`make repro`" in str(caught.value)


def test_the_reason_of_a_missing_record_names_what_may_have_happened() -> None:
    print(summary.MISSING.reason)
    assert summary.MISSING.reason and "ended" in summary.MISSING.reason
