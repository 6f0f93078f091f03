import base64
import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from mlflow.exceptions import MlflowException
from PIL import ExifTags, Image

from stages.contracts import codec, labels
from stages.contracts.conversion import MANIFEST, Manifest
from stages.contracts.labels import Labels
from stages.contracts.preprocessing import Floats
from stages.contracts.status import OK
from stages.contracts.variant import Variant
from stages.data import batches, decode, fit
from stages.runtimes.tflite import session as tflite
from stages.runtimes.tflite.options import Options
from stages.serving import pyfunc
from stages.serving.pyfunc import Answer, ServedModel
from stages.serving.setting import LABELS, MODEL, SETTING, Setting
from tests.fixtures.records import PREPARED


class Red:
    """A session whose best class is the mean of the red channel; it fails if two calls overlap."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.busy = False

    def put(self, images: Floats) -> None:
        assert not self.busy
        self.busy = True
        self.sizes.append(len(images))
        self._images = images

    def run(self) -> npt.NDArray[Any]:
        threading.Event().wait(0.001)
        best = np.rint(self._images[..., 0].mean(axis=(1, 2)) * 255).astype(int)
        probabilities = np.full((len(best), 6), 0.01, np.float32)
        probabilities[np.arange(len(best)), best] = 0.9
        return probabilities

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        self.busy = False
        return output


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Red:
    made = Red()
    monkeypatch.setattr(tflite, "open_session", lambda *arguments: made)
    return made


@pytest.fixture
def model(tmp_path: Path, session: Red) -> ServedModel:
    """Six classes, images of 4 x 4 pixels, batches of three."""
    labels.write(Labels(tuple("abcdef"), tuple(f"n{index:08}" for index in range(6))), tmp_path / LABELS)
    codec.write(Setting(PREPARED, 3), tmp_path / SETTING)
    manifest = Manifest(Variant("tflite", "fp32"), OK, {"xnnpack": False})
    codec.write(manifest, tmp_path / MODEL / MANIFEST)
    return pyfunc._load_pyfunc(str(tmp_path))


def red(*classes: int, size: tuple[int, int] = (5, 7)) -> npt.NDArray[np.uint8]:
    images = np.zeros((len(classes), *size, 3), np.uint8)
    images[..., 0] = np.array(classes)[:, np.newaxis, np.newaxis]
    return images


def ragged(*images: Any) -> npt.NDArray[Any]:
    array = np.empty(len(images), object)
    array[:] = images
    return array


def encoded(format: str, index: int = 2, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 6), (index, 0, 0)).save(file, format, **options)
    return file.getvalue()


def test_a_row_names_the_best_class_and_the_best_five(model: ServedModel) -> None:
    table = model.predict({"image": red(4, 1)})
    assert list(table.columns) == list(Answer._fields)
    first = table.iloc[0]
    assert (first["label"], first["name"], first["wnid"]) == (4, "e", "n00000004")
    assert first["score"] == pytest.approx(0.9)
    assert (first["top5_labels"], first["top5_names"]) == ([4, 0, 1, 2, 3], ["e", "a", "b", "c", "d"])
    assert first["top5_scores"] == pytest.approx([0.9] + [0.01] * 4)
    assert table["label"].tolist() == [4, 1]


def test_images_are_classified_in_the_evaluations_batches(model: ServedModel, session: Red) -> None:
    assert model.predict({"image": red(0, 1, 2, 3, 4, 5, 0)})["label"].tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert session.sizes == [3, 3, 1]


def test_no_image_is_no_row(model: ServedModel) -> None:
    table = model.predict({"image": red()})
    assert (len(table), list(table.columns)) == (0, list(Answer._fields))


def test_one_request_may_hold_images_of_several_sizes_and_kinds(model: ServedModel) -> None:
    png = encoded("PNG", 5)
    text = base64.encodebytes(encoded("PNG", 3)).decode()
    images = ragged(red(1)[0], red(4, size=(30, 20))[0].tolist(), png, text)
    assert model.predict({"image": images})["label"].tolist() == [1, 4, 5, 3]


def test_whole_numbers_from_json_are_pixels(model: ServedModel) -> None:
    for images in (red(2).astype(np.int64), np.array(red(2).tolist(), dtype=object)):
        assert model.predict({"image": images})["label"].tolist() == [2]


@pytest.mark.parametrize("turn", [1, 6])
def test_a_file_is_decoded_as_for_the_evaluation(tmp_path: Path, turn: int) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    Image.effect_noise((30, 20), 90).convert("RGB").save(file, "JPEG", exif=exif)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    expected = np.asarray(decode.decode(tmp_path / "a.jpg"))
    assert expected.shape == ((20, 30, 3) if turn == 1 else (30, 20, 3))
    np.testing.assert_array_equal(np.asarray(pyfunc.open_image(file.getvalue(), upright=True)), expected)
    np.testing.assert_array_equal(np.asarray(pyfunc.open_image(expected, upright=True)), expected)


def test_pixels_are_preprocessed_as_for_the_evaluation(tmp_path: Path) -> None:
    preprocessing = replace(PREPARED, crop_fraction=0.875)
    Image.effect_noise((31, 20), 90).convert("RGB").save(tmp_path / "a.jpg")
    pixels = np.asarray(Image.open(tmp_path / "a.jpg"))
    served = fit.model_input(pyfunc.open_image(pixels, upright=True), preprocessing)
    np.testing.assert_array_equal(served, batches.load(tmp_path / "a.jpg", preprocessing))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (b"no image", "its bytes are no image file that Pillow can read"),
        ("bm8gaW1hZ2U=", "its bytes are no image file that Pillow can read"),
        (encoded("GIF"), "its bytes are no image file that Pillow can read"),
        ("not base64!", "its text is not base64"),
        (np.zeros((4, 4, 3), np.float32), "and is float32 of shape [4, 4, 3]"),
        (np.zeros((4, 4), np.uint8), "and is uint8 of shape [4, 4]"),
        (np.zeros((4, 4, 4), np.uint8), "and is uint8 of shape [4, 4, 4]"),
        (np.zeros((0, 4, 3), np.uint8), "and is uint8 of shape [0, 4, 3]"),
        ([[[0, 0, 300]]], "and is int64 of shape [1, 1, 3]"),
        ([[[0, 0, -1]]], "and is int64 of shape [1, 1, 3]"),
    ],
)
def test_anything_else_is_refused_by_its_position(model: ServedModel, wrong: Any, reason: str) -> None:
    with pytest.raises(MlflowException) as caught:
        model.predict({"image": ragged(*red(1, 1, 1, 1), wrong)})
    assert caught.value.message.startswith("image 4 of this request: ")
    assert reason in caught.value.message


def test_the_first_prediction_loads_the_model_and_no_other(
    model: ServedModel, session: Red, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[tuple[Any, ...]] = []

    def load(*arguments: Any) -> Red:
        loads.append(arguments)
        return session

    monkeypatch.setattr(tflite, "open_session", load)
    assert loads == []
    model.predict({"image": red(1)})
    model.predict({"image": red(1)})
    ((folder, precision, options, threads),) = loads
    assert (folder.name, precision, options, threads) == (MODEL, "fp32", Options(xnnpack=False), None)


def test_requests_at_once_do_not_mix(model: ServedModel) -> None:
    answers: dict[int, list[int]] = {}

    def ask(index: int) -> None:
        answers[index] = model.predict({"image": red(*[index] * 4)})["label"].tolist()

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {index: [index] * 4 for index in range(6)}
