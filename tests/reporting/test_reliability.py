import pytest

from stages.reporting import reliability
from stages.statistics.per_class import Bin, ClassReport
from tests.reporting.reader import Reader

BINS = (Bin(0.6, 2 / 3, 3, 0.65, 1 / 3), Bin(14 / 15, 1.0, 1, 0.99, 1.0))
REPORT = ClassReport((), {}, BINS)


def test_every_bin_is_told_in_words() -> None:
    assert Reader(reliability.reliability({"tflite-int8": REPORT})).texts("desc") == [
        "tflite-int8: ECE 24.0 %; 3 images with confidence 65.0 %, 33.3 % right; "
        "1 image with confidence 99.0 %, 100.0 % right."
    ]


@pytest.mark.parametrize("variants", [1, 2, 3, 4, 7])
def test_every_variant_has_its_panel_and_every_column_its_numbers(variants: int) -> None:
    names = [f"v{i}" for i in range(variants)]
    texts = Reader(reliability.reliability(dict.fromkeys(names, REPORT))).texts("text")
    assert [text for text in texts if text in names] == names and texts.count("ECE 24.0 %") == variants
    columns, lines = min(3, variants), -(-variants // 3)
    # The middle of each axis, once for each column and each line.
    assert texts.count("50") == columns + lines


def test_without_an_evaluated_variant_there_is_no_chart() -> None:
    assert reliability.reliability({}) is None
