from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stages.contracts import predictions
from stages.contracts.evaluation import Answered, Counts
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
        probabilities = np.tile(0.02 - 0.001 * np.arange(10, dtype=np.float32), (len(best), 1))
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
    # The first images are asked for together, alone, and together again.
    asked = [sizes[0], *[1] * sizes[0], sizes[0]]
    assert session.sizes == [*asked, *sizes]
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
    """Has no finite answer to the images of some classes."""

    def __init__(self, value: float, *classes: int) -> None:
        super().__init__()
        self.value, self.classes = value, classes

    def run(self) -> npt.NDArray[Any]:
        probabilities = super().run()
        probabilities[(probabilities[:, self.classes] > 0.5).any(axis=1), 9] = self.value
        return probabilities


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_an_answer_that_is_not_finite_is_none_and_counts_as_wrong(seven: Path, value: float, batch_size: int) -> None:
    counts = ask(NotFinite(value, 4), seven, batch_size)
    assert counts == Counts(7, 4, 4, Answered(1, ("sub/4.png",)))
    rows = predictions.read(seven / "predictions.csv")
    assert [row.best for row in rows] == [0, 1, 2, 3, None, 5, 6]
    assert rows[4] == Prediction("sub/4.png", 4, [], [], 0, 0.0, 0.0)


def test_the_layer_that_spoils_the_first_answer_is_told(seven: Path) -> None:
    class Telling(NotFinite):
        asked: Any = ()

        def first_not_finite(self, image: Floats) -> str:
            self.asked = (*self.asked, image)
            return "truediv"

    session = Telling(np.nan, 4)
    assert ask(session, seven, 3).answered == Answered(1, ("sub/4.png",), first_layer="truediv")
    (image,) = session.asked
    assert image.shape == (1, 4, 4, 3) and image[0, 0, 0, 0] == pytest.approx(4 / 255)
    error = refused(ask, Telling(np.nan, 1, 2), seven, 3)
    assert_helps(error, "which first comes from truediv")


def test_more_than_a_few_images_without_an_answer_are_a_failure_that_names_the_first(seven: Path) -> None:
    error = refused(ask, NotFinite(np.nan, 1, 2, 4, 6), seven, 3)
    assert named(error, "without", "first_without") == ("no-answers", 4, ("sub/1.png", "sub/2.png", "sub/4.png"))
    assert_helps(error, "4 of 7 images have no answer")


@pytest.mark.parametrize(("variant", "own"), [("savedmodel-fp32", True), ("tflite-int8", False)])
def test_only_what_is_made_of_the_model_can_be_left_out(variant: str, own: bool, tmp_path: Path) -> None:
    rows = [Prediction("a.png", 0, [], [], 0, 0.0, 0.0)] * 4
    error = refused(predict.write, rows, tmp_path / "predictions.csv", variant)
    told = str(error)
    assert ("the model itself does it" in told, "leave this variant out" in told) == (own, not own)
    assert_helps(error, "4 of 4 images have no answer")


def test_a_runtime_that_mixes_up_a_batch_leaves_no_table(seven: Path) -> None:
    class Mixing(Red):
        def run(self) -> npt.NDArray[Any]:
            return np.roll(super().run(), 1, axis=0)

    error = refused(ask, Mixing(), seven, 3)
    assert error.code == "answers-mixed"
    assert not (seven / "predictions.csv").exists()


@pytest.mark.parametrize(("labels", "refuses"), [([0, 1] * 4, True), ([0] * 8, False), ([0, 1] * 3, False)])
def test_one_answer_to_all_images_of_several_classes_is_none(labels: list[int], refuses: bool, tmp_path: Path) -> None:
    rows = [Prediction.plain(f"{i}.png", label, [0, 1], [0.9, 0.1]) for i, label in enumerate(labels)]
    if refuses:
        assert refused(predict.write, rows, tmp_path / "predictions.csv", "tflite-int8").code == "no-answers"
    else:
        assert predict.write(rows, tmp_path / "predictions.csv", "tflite-int8").images == len(labels)


def prediction(label: int, *classes: int) -> Prediction:
    return Prediction.plain("a.jpg", label, list(classes), [0.5, 0.2, 0.1, 0.05, 0.01])


def test_the_first_and_the_first_five_classes_count(tmp_path: Path) -> None:
    rows = [
        prediction(1, 1, 2, 3, 4, 5),
        prediction(5, 1, 2, 3, 4, 5),
        prediction(2, 1, 2, 3, 4, 5),
        prediction(9, *range(5)),
    ]
    assert predict.write(iter(rows), tmp_path / "predictions.csv", "tflite-int8") == Counts(4, 1, 3)
    assert list(predictions.read(tmp_path / "predictions.csv")) == rows


@pytest.mark.parametrize(("label", "correct"), [(1, 1), (2, 0)])
def test_a_single_image_counts(label: int, correct: int, tmp_path: Path) -> None:
    counts = predict.write([prediction(label, 1, 3, 4, 5, 6)], tmp_path / "predictions.csv", "tflite-int8")
    assert counts.top1_correct == correct
