from array import array
from pathlib import Path

import pytest

from stages.contracts.timing import HEADER, Sample, Series, read_samples, write_samples
from stages.core.errors import PipelineError

CALLS: list[Sample] = [
    ("tflite-int8", 1, "latency", 0, 0, 0.1234567),
    ("tflite-int8", 1, "latency", 0, 0, 2.0),
    ("tflite-int8", 1, "latency", 0, 1, 3.0),
    ("tflite-int8", 8, "latency", 0, 0, 4.0),
    ("tflite-int8", 1, "latency", 1, 0, 5.0),
]


def test_calls_are_read_by_series_repeat_and_block(tmp_path: Path) -> None:
    write_samples(CALLS, tmp_path / "samples.csv")
    assert read_samples(tmp_path / "samples.csv") == {
        # With six digits.
        Series("tflite-int8", 1, "latency"): [[array("d", [0.123457, 2]), array("d", [3])], [array("d", [5])]],
        Series("tflite-int8", 8, "latency"): [[array("d", [4])]],
    }


@pytest.mark.parametrize(
    "line",
    [
        "a,1,latency,1,0,1.0",
        "a,1,latency,-1,0,1.0",
        "a,1,latency,0,1,1.0",
        "a,1,latency,0,-1,1.0",
        "a,one,latency,0,0,1.0",
        "a,1,latency,0,0,nan",
        "a,1,latency,0,0,inf",
        "a,1,latency,0,0,0",
        "a,1,latency,0",
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(f"{','.join(HEADER)}\n{line}\n")
    with pytest.raises(PipelineError, match=str(path)):
        read_samples(path)
