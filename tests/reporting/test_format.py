import pytest

from stages.reporting import format


def test_numbers_and_intervals() -> None:
    assert format.number(-1234.567, 1) == "\N{MINUS SIGN}1,234.6"
    assert format.number(None, 1) == ""
    assert format.interval([0.1, None], 1, 100) == "[10.0,\N{NO-BREAK SPACE}?]"
    assert format.interval(None, 1) == ""


@pytest.mark.parametrize(("p", "text"), [(1.0, "1"), (0.0213, "0.021"), (0.001, "0.001"), (0.0009, "< 0.001")])
def test_a_probability_has_two_digits_or_a_bound(p: float, text: str) -> None:
    assert format.p_value(p) == text
