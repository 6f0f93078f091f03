import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.cluster import batches
from stages.cluster.batches import Answered
from stages.contracts.images import EVALUATION
from stages.core import files
from tests.fixtures.errors import named, refused


def answered(index: int, count: int) -> Answered:
    return {"index": index, "error": "", "answers": json.dumps([[[index], [0.5], 1, 0.0, 0.0]] * count)}


def test_batches_name_all_images_in_order_with_the_first_digits_of_their_digests(checkout: Path) -> None:
    rows = [(f"{index}.png", index, f"{index}" * 64) for index in range(5)]
    files.write_csv(EVALUATION / "labels.csv", ("file", "label", "sha256"), rows)
    made = list(batches.of_evaluation([(name, label) for name, label, _ in rows], 2))
    assert [batch["index"] for batch in made] == [0, 1, 2]
    assert [batch["files"] for batch in made] == [["0.png", "1.png"], ["2.png", "3.png"], ["4.png"]]
    assert made[2]["digests"] == ["4" * 16]
    assert [batch["labels"] for batch in made] == [[0, 1], [2, 3], [4]]


def test_batches_in_any_order_become_predictions_in_the_order_of_the_images() -> None:
    table = [(f"{index}.png", index) for index in range(5)]
    rows = list(batches.in_order([answered(2, 1), answered(0, 2), answered(1, 2)], table, 2))
    assert [prediction.file for prediction in rows] == [name for name, _ in table]
    assert [prediction.classes for prediction in rows] == [[0], [0], [1], [1], [2]]


@pytest.mark.parametrize(
    ("rows", "batch"),
    [
        ([answered(0, 2), answered(1, 2)], 2),  # never answered
        ([answered(0, 2), answered(2, 1)], 1),
        ([answered(0, 2), answered(1, 1), answered(2, 1)], 1),  # too few
        ([answered(0, 2), answered(0, 2)], 0),  # twice
        ([answered(2, 1), answered(2, 1)], 2),
        ([answered(0, 2), answered(1, 2), answered(2, 1), answered(3, 1)], 3),  # too many
    ],
)
def test_an_image_that_is_missing_or_counted_twice_is_an_error(rows: list[Answered], batch: int) -> None:
    error = refused(lambda: list(batches.in_order(rows, [("a.png", 0)] * 5, 2)))
    assert named(error, "batch") == ("batch-answers", batch)


def test_what_failed_on_a_node_is_told_as_it_is() -> None:
    rows: list[Answered] = [answered(0, 2), {"index": 1, "error": "no image", "answers": "[]"}]
    error = refused(lambda: list(batches.in_order(rows, [("a.png", 0)] * 5, 2)))
    assert (str(error), *named(error, "batch")) == ("no image", "batch-failed", 1)


def test_only_batches_that_came_too_early_wait() -> None:
    taken: list[int] = []

    def rows() -> Iterator[Answered]:
        for index in (1, 0, 2):
            taken.append(index)
            yield answered(index, 1)

    found = batches.in_order(rows(), [("a.png", 0)] * 3, 1)
    assert [(next(found).classes, list(taken)) for _ in range(3)] == [([0], [1, 0]), ([1], [1, 0]), ([2], [1, 0, 2])]
