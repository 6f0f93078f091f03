import pytest

from stages.reporting import format


def test_numbers_have_thousands_set_apart_and_a_real_minus() -> None:
    assert format.number(-1234.567, digits=1) == "\N{MINUS SIGN}1,234.6"
    assert format.number(0.5, digits=0, scale=100) == "50"
    assert format.number(None, digits=1) == ""


def test_a_terminal_gets_plain_ones() -> None:
    assert format.number(-1234.567, digits=1, plain=True) == "-1234.6"
    assert format.interval((-0.1, 0.25), digits=1, scale=100, plain=True) == "[-10.0, 25.0]"


def test_an_open_end_of_an_interval_is_a_question_mark() -> None:
    assert format.interval((0.1, None), digits=1, scale=100) == "[10.0,\N{NO-BREAK SPACE}?]"
    assert format.interval(None, digits=1) == ""
    assert format.figure(0.5, (0.25, None), digits=0, scale=100) == ("50", "[25,\N{NO-BREAK SPACE}?]")


@pytest.mark.parametrize(("points", "text"), [(1.5, "+1.50"), (0.0, "0.00"), (-1.5, "\N{MINUS SIGN}1.50")])
def test_a_difference_has_its_sign(points: float, text: str) -> None:
    assert format.signed(points, digits=2) == text


@pytest.mark.parametrize(("ratio", "text"), [(2.0, "2.00x"), (None, "")])
def test_a_speed_up_is_a_number_of_times(ratio: float | None, text: str) -> None:
    assert format.times(ratio, "x") == text


@pytest.mark.parametrize(("p", "text"), [(1.0, "1"), (0.0213, "0.021"), (0.001, "0.001"), (0.0009, "< 0.001")])
def test_a_probability_has_two_digits_or_a_bound(p: float, text: str) -> None:
    assert format.p_value(p) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 images"), (1, "1 image"), (1200, "1,200 images")])
def test_several_are_plural(count: int, text: str) -> None:
    assert format.plural(count, "image") == text
