from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stages.contracts import predictions
from stages.contracts.evaluation import Counts
from stages.contracts.messages import PredictOrder
from stages.contracts.predictions import Prediction
from stages.contracts.preprocessing import Floats, Preprocessing
from stages.core import files
from stages.runtimes import predict
from stages.runtimes.contract import Session
from tests.fixtures.errors import assert_helps, named, refused

PREPROCESSING = Preprocessing(4, 4, "crop", 1.0, (1 / 255,) * 3, (0.0,) * 3, "rgb")


class Red(Session):
    """Its best class is the mean of the red channel: images are told apart by what they show."""

    asynchronous = on_gpu = False

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def put(self, images: Floats) -> None:
        self.sizes.append(len(images))
        self._images = images

    def run(self) -> npt.NDArray[Any]:
        best = np.rint(self._images[..., 0].mean(axis=(1, 2)) * 255).astype(int)
        probabilities = np.full((len(best), 10), 0.01, np.float32)
        probabilities[np.arange(len(best)), best] = 0.9
        return probabilities

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return output


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    """Seven images, each as red as its class; the last two are labelled with another class."""
    (tmp_path / "images/sub").mkdir(parents=True)
    for index in range(7):
        Image.new("RGB", (6, 5), (index, 0, 0)).save(tmp_path / f"images/sub/{index}.png")
    rows = [(f"sub/{index}.png", index if index < 5 else 9) for index in range(7)]
    files.write_csv(tmp_path / "images/labels.csv", ("file", "label"), rows)
    return tmp_path


def ask(session: Session, folder: Path, batch_size: int) -> Counts:
    order = PredictOrder(str(folder / "images"), str(folder / "predictions.csv"), batch_size)
    return predict.predict(session, PREPROCESSING, order, "tflite-fp32")


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (8, [7])], ids=["1", "3", "7", "8"]
)
def test_every_image_counts_at_every_batch_size(seven: Path, batch_size: int, sizes: list[int]) -> None:
    session = Red()
    assert ask(session, seven, batch_size) == Counts(7, 5, 5)
    assert session.sizes == sizes
    rows = predictions.read(seven / "predictions.csv")
    assert [row.file for row in rows] == [f"sub/{i}.png" for i in range(7)]
    assert [row.label for row in rows] == [0, 1, 2, 3, 4, 9, 9]
    assert [row.classes[0] for row in rows] == list(range(7))
    assert all(len(row.classes) == len(row.scores) == 5 for row in rows)
    assert rows[3].scores[0] == pytest.approx(0.9)


def test_a_bad_image_ends_it_with_its_name_and_leaves_no_table(seven: Path) -> None:
    (seven / "images/sub/4.png").write_text("no image")
    assert "images/sub/4.png" in str(refused(ask, Red(), seven, 3))
    assert not (seven / "predictions.csv").exists()


class NotFinite(Red):
    """Has no finite answer to the image of class 4."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def run(self) -> npt.NDArray[Any]:
        probabilities = super().run()
        probabilities[probabilities[:, 4] > 0.5, 9] = self.value
        return probabilities


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_an_answer_that_is_not_finite_is_refused_with_its_image(seven: Path, value: float, batch_size: int) -> None:
    error = refused(ask, NotFinite(value), seven, batch_size)
    assert named(error, "image") == ("not-finite", "sub/4.png")
    assert_helps(error, "sub/4.png")
    assert not (seven / "predictions.csv").exists()


def prediction(label: int, *classes: int) -> Prediction:
    return Prediction("a.jpg", label, list(classes), [0.5, 0.2, 0.1, 0.05, 0.01])


def test_the_first_and_the_first_five_classes_count(tmp_path: Path) -> None:
    rows = [
        prediction(1, 1, 2, 3, 4, 5),
        prediction(5, 1, 2, 3, 4, 5),
        prediction(2, 1, 2, 3, 4, 5),
        prediction(9, *range(5)),
    ]
    assert predict.write(iter(rows), tmp_path / "predictions.csv") == Counts(4, 1, 3)
    assert list(predictions.read(tmp_path / "predictions.csv")) == rows


@pytest.mark.parametrize(("label", "correct"), [(1, 1), (2, 0)])
def test_a_single_image_counts(label: int, correct: int, tmp_path: Path) -> None:
    counts = predict.write([prediction(label, 1, 3, 4, 5, 6)], tmp_path / "predictions.csv")
    assert counts.top1_correct == correct
