import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts import predictions
from stages.contracts.predictions import HEADER, NO_ANSWER, Prediction, answers, top_k
from stages.core.errors import PipelineError
from tests.fixtures.errors import named, refused


def written(found: list[Prediction], folder: Path) -> str:
    predictions.write(found, folder / "predictions.csv")
    return (folder / "predictions.csv").read_text()


def test_the_table_keeps_seven_digits_of_every_score(tmp_path: Path) -> None:
    score = float(np.float32(0.123456789))
    text = written([Prediction.plain("a, b.jpg", 7, [7, 1, 2, 3, 4], [score, 1e-9, 0.0, 0.0, 0.0])], tmp_path)
    (row,) = csv.DictReader(io.StringIO(text))
    assert list(row) == list(HEADER)
    assert (row["file"], row["label"], row["class1"], row["class5"]) == ("a, b.jpg", "7", "7", "4")
    assert float(row["score1"]) == pytest.approx(score, rel=1e-6)
    assert float(row["score2"]) == 1e-9


def test_a_table_without_predictions_is_its_header(tmp_path: Path) -> None:
    assert written([], tmp_path) == ",".join(HEADER) + "\n"


@pytest.mark.parametrize(
    "text", ["file,label\na.jpg,1\n", "file,label,class1,score1\na.jpg,one,1,0.5\n", "junk\nx\n", "\0\nx\n"]
)
def test_a_table_of_something_else_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(PipelineError, match=r"predictions\.csv is no table of predictions .*: delete it and run"):
        predictions.read(tmp_path / "predictions.csv")


@pytest.mark.parametrize(
    "line",
    [
        "a.jpg,1,2,,,,,nan,,,,",
        "a.jpg,1,2,,,,,inf,,,,",
        "a.jpg,1,2,,,,,1e999,,,,",
        "a.jpg,1,99999999999,,,,,0.5,,,,",
        f"a.jpg,1,{'9' * 5000},,,,,0.5,,,,",
        "a.jpg,99999999999,2,,,,,0.5,,,,",
        "a.jpg,-1,2,,,,,0.5,,,,",
        "a.jpg,1,-1,,,,,0.5,,,,",
        "a.jpg,1,,,,,,,,,,",
        "a.jpg,1,2,3,,,,0.5,,,,",
    ],
)
def test_an_answer_that_no_model_can_give_is_damage(tmp_path: Path, line: str) -> None:
    (tmp_path / "predictions.csv").write_text(",".join(HEADER) + f"\n{line}\n")
    error = refused(predictions.read, tmp_path / "predictions.csv")
    assert named(error, "file") == ("table-damaged", str(tmp_path / "predictions.csv"))


def test_the_highest_class_that_fits_is_read(tmp_path: Path) -> None:
    found = [Prediction.plain("a.jpg", predictions.HIGHEST, [predictions.HIGHEST], [1.0])]
    written(found, tmp_path)
    assert list(predictions.read(tmp_path / "predictions.csv")) == found


def test_what_was_written_is_read(tmp_path: Path) -> None:
    found = [
        Prediction.plain("a, b.jpg", 7, [7, 1, 2, 3, 4], [0.5, 0.25, 0.125, 0.0, 0.0]),
        Prediction.plain("ö/c.jpg", 0, [1, 0, 2, 3, 4], [1.0, 0.0, 0.0, 0.0, 0.0]),
        Prediction.plain('=HYPERLINK("http://x")/\r.jpg', 0, [1, 0, 2, 3, 4], [1.0, 0.0, 0.0, 0.0, 0.0]),
        Prediction.plain("three classes.jpg", 2, [2, 0, 1], [0.5, 0.375, 0.125]),
    ]
    written(found, tmp_path)
    read = predictions.read(tmp_path / "predictions.csv")
    assert list(read) == found
    assert (read[-1], read[1:], len(read)) == (found[-1], found[1:], 4)
    assert [p.right for p in found] == [True, False, False, True]
    assert "\n=" not in (tmp_path / "predictions.csv").read_text()  # as a spreadsheet would run it


def test_a_missing_table_is_empty(tmp_path: Path) -> None:
    assert not predictions.read(tmp_path / "predictions.csv")


def test_top_k_is_best_first_and_per_row() -> None:
    best = top_k(np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]], np.float32), 2)
    assert best.tolist() == [[1, 2], [0, 2]]


def test_top_k_gives_ties_to_the_lower_class() -> None:
    values = np.zeros((1, 1000), np.float32)
    values[0, [7, 900, 12]] = 0.25
    assert top_k(values).tolist() == [[7, 12, 900, 0, 1]]


def test_top_k_returns_no_more_classes_than_there_are() -> None:
    assert top_k(np.array([[0.1, 0.9]], np.float32), 5).tolist() == [[1, 0]]


NAN = float("nan")


@pytest.mark.parametrize(
    ("row", "label", "answer"),
    [
        ([0.1, 0.6, 0.3], 1, ([1, 2, 0], [0.6, 0.3, 0.1], 1, 1, 1)),
        ([0.1, 0.6, 0.3], 2, ([1, 2, 0], [0.6, 0.3, 0.1], 1, 0, 1)),
        ([0.4, 0.2, 0.4], 2, ([0, 2, 1], [0.4, 0.4, 0.2], 2, 0.5, 1)),
        ([0.4, 0.2, 0.4], 1, ([0, 2, 1], [0.4, 0.4, 0.2], 2, 0, 1)),
        ([NAN, 0.2, 0.4], 2, NO_ANSWER),
        ([0.2, float("inf"), 0.4], 1, NO_ANSWER),
    ],
)
def test_a_tie_counts_as_its_share_and_no_number_as_no_answer(row: list[float], label: int, answer: Any) -> None:
    (found,) = answers(np.array([row], np.float32), [label])
    assert found[:1] + found[2:] == tuple(answer)[:1] + tuple(answer)[2:]
    assert found.scores == pytest.approx(answer[1])


@pytest.mark.parametrize("label", range(10))
def test_of_ten_alike_classes_each_is_right_for_a_tenth_and_among_five_for_a_half(label: int) -> None:
    """Whatever their numbers."""
    (found,) = answers(np.full((1, 10), 0.1, np.float32), [label])
    assert (found.tied, found.top1, found.top5) == (10, 0.1, 0.5)


def test_a_label_at_the_border_of_five_has_its_share_of_the_places_left() -> None:
    """Two are better, and four share the three places that are left."""
    (found,) = answers(np.array([[0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05]], np.float32), [5])
    assert (found.tied, found.top1, found.top5) == (1, 0, 0.75)


def test_answers_travel_through_their_table(tmp_path: Path) -> None:
    probabilities = np.array([[0.4, 0.2, 0.4], [NAN, 0.5, 0.5], [0.1, 0.2, 0.7]], np.float32)
    made = [Prediction(f"{i}.png", i, *answer) for i, answer in enumerate(answers(probabilities, [0, 1, 2]))]
    predictions.write(made, tmp_path / "predictions.csv")
    found = predictions.read(tmp_path / "predictions.csv")
    assert [one._replace(scores=[]) for one in found] == [one._replace(scores=[]) for one in made]
    assert [one.scores for one in found] == [pytest.approx(one.scores, rel=1e-6) for one in made]
