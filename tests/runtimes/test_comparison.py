"""A converted model that is not the model is refused, whatever its converter said; one that rounds is not."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts import reference
from stages.contracts.conversion import ConvertJob
from stages.contracts.preprocessing import Floats
from stages.contracts.reference import Reference
from stages.contracts.variant import Variant
from stages.core import files
from stages.runtimes import comparison, loading, registry
from stages.runtimes.contract import Session
from tests.fixtures import tiny
from tests.fixtures.errors import assert_helps, named, refused

SHAPE, CLASSES, ASKED = (8, 8, 3), 6, 16
Answers = Callable[[Any, str], ConvertJob]


class Given(Session):
    """Answers what it is given, in the order of the images."""

    asynchronous = False

    def __init__(self, answers: Any, on_gpu: bool = False) -> None:
        self.left: Iterator[Any] = iter(answers)
        self.on_gpu = on_gpu
        self.sizes: list[int] = []

    def put(self, images: Floats) -> None:
        self.sizes.append(len(images))

    def run(self) -> Any:
        return np.stack([next(self.left) for _ in range(self.sizes[-1])])

    def probabilities(self, output: Any) -> Any:
        return output


def sure(classes: Any, probability: float = 0.9) -> Floats:
    """Of each image that probability for its class, and the rest for the others."""
    answers = np.full((len(classes), CLASSES), (1 - probability) / (CLASSES - 1), np.float32)
    answers[np.arange(len(classes)), classes] = probability
    return answers


VARIED = np.arange(ASKED) % 4


@pytest.fixture
def against(tmp_path: Path) -> Answers:
    """A job whose SavedModel gives these answers to 16 of 20 calibration images."""
    images = tiny.calibration_images(tmp_path / "calibration", SHAPE)

    def write(answers: Any, precision: str) -> ConvertJob:
        reference.write(answers, tmp_path / "answers.npy")
        job = tiny.convert_job(tmp_path, tmp_path / "out", precision, images, SHAPE, (1, 6))
        return replace(job, reference=Reference(str(tmp_path / "answers.npy"), 1000, 1e-4))

    return write


@pytest.mark.parametrize(
    ("precision", "on_gpu", "far", "close"),
    [
        ("fp32", False, 5e-5, True),
        ("fp32", False, 5e-4, False),
        ("fp16", False, 2e-2, True),
        ("fp16", False, 6e-2, False),
        ("fp32", True, 2e-2, True),  # TF32 has as many bits as FP16
        ("fp32", True, 6e-2, False),
    ],
)
def test_fp32_and_fp16_may_differ_by_rounding(
    against: Answers, precision: str, on_gpu: bool, far: float, close: bool
) -> None:
    ours = sure(VARIED)
    theirs = ours + np.float32(far) * (np.arange(CLASSES) == 0)
    job = against(ours, precision)
    if close:
        facts = comparison.compare(job, Given(theirs, on_gpu))
        assert facts == {
            "compared_images": 16,
            "compared_difference": pytest.approx(far, rel=1e-3),
            "compared_agreement": 1,
        }
        return
    error = refused(comparison.compare, job, Given(theirs, on_gpu))
    assert named(error, "moved") == ("conversion-differs", 0)
    assert error.values["difference"] == pytest.approx(far, rel=1e-3)
    assert_helps(error, f"16 images of {job.calibration}")


def test_what_rounding_moves_in_the_model_itself_is_known(against: Answers) -> None:
    ours = sure(VARIED)
    job = against(ours, "fp32")
    assert refused(comparison.compare, job, Given(ours + np.float32(1e-3))).code == "conversion-differs"
    half = replace(job, reference=replace(job.reference, allowed_difference=1e-2))
    assert comparison.compare(half, Given(ours + np.float32(1e-3)))["compared_images"] == 16


def test_it_asks_in_batches_that_there_are_engines_for(against: Answers) -> None:
    session = Given(sure(VARIED))
    comparison.compare(against(sure(VARIED), "fp32"), session)
    assert session.sizes == [6, 6, 4]


def rounded(answers: Any, seed: int = 0) -> Floats:
    """As INT8 has it: another logit in the second digit, and 256 steps in all."""
    noise = np.random.default_rng(seed).normal(0, 0.3, answers.shape)
    powers = answers * np.exp(noise)
    steps: Floats = (np.round(256 * powers / powers.sum(axis=1, keepdims=True)) / 256).astype(np.float32)
    return steps


UNSURE = np.random.default_rng(0).dirichlet(np.full(1000, 50.0), ASKED).astype(np.float32)
TWO = sure(np.arange(ASKED) % 2)
ONE = sure(np.zeros(ASKED, int))
HONEST = {
    "varied": (sure(VARIED), rounded(sure(VARIED))),
    "half of them others": (sure(VARIED), sure(np.where(np.arange(ASKED) < 7, VARIED, 5))),
    # All of a thousand classes are less than half a step.
    "nothing left of small probabilities": (UNSURE, rounded(UNSURE)),
    "one class": (ONE, rounded(ONE)),
    "one class but for one image": (sure([1, *[0] * 15]), ONE),
    "unsure images in other classes": (sure(VARIED, 0.4), sure((VARIED + 1) % 4, 0.4)),
    "another answer to images that are alike": (sure(np.zeros(ASKED, int), 0.5), sure(np.zeros(ASKED, int), 0.3)),
    "few sure images": (np.concatenate([sure(VARIED[:7]), sure(VARIED[7:], 0.3)]), sure((VARIED + 1) % 4)),
}
BROKEN = {
    "no number": (sure(VARIED), np.where(np.arange(ASKED)[:, None] == 3, np.nan, sure(VARIED))),
    "one answer": (sure(VARIED), ONE),
    "one answer of 0": (sure(VARIED), np.zeros((ASKED, CLASSES))),
    "one class, more or less sure": (sure(VARIED), sure(np.zeros(ASKED, int)) * np.linspace(0.5, 1, ASKED)[:, None]),
    "other classes": (sure(VARIED), np.roll(sure(VARIED), 1, axis=1)),
    "the other of two": (TWO[:, :2], np.roll(TWO[:, :2], 1, axis=1)),
    "other images": (sure(VARIED), sure(np.roll(VARIED, 1))),
}


@pytest.mark.parametrize("precision", ["int8", "dynamic"])
@pytest.mark.parametrize("how", HONEST)
def test_what_quantisation_may_do_is_recorded(against: Answers, how: str, precision: str) -> None:
    ours, theirs = HONEST[how]
    facts = comparison.compare(against(ours, precision), Given(theirs.astype(np.float32)))
    assert facts["compared_images"] == ASKED
    assert facts["compared_difference"] == pytest.approx(np.abs(ours - theirs).max())
    assert facts["compared_agreement"] == (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean()


def test_a_few_images_tell_too_little(against: Answers, tmp_path: Path) -> None:
    one = tiny.calibration_images(tmp_path / "one", SHAPE, 1)
    job = replace(against(sure([0]), "int8"), calibration=str(one))
    assert comparison.compare(job, Given(sure([1])))["compared_agreement"] == 0
    error = refused(comparison.compare, job, Given(sure([1]) * np.nan))
    assert error.code == "conversion-broken"


@pytest.mark.parametrize("how", BROKEN)
def test_what_quantisation_does_not_do_is_refused(against: Answers, how: str) -> None:
    ours, theirs = BROKEN[how]
    job = against(ours, "int8")
    error = refused(comparison.compare, job, Given(theirs.astype(np.float32)))
    assert error.code == "conversion-broken"
    assert_helps(error, f"16 images of {job.calibration}")


def test_an_image_without_an_answer_is_no_comparison(against: Answers) -> None:
    ours = sure(VARIED)
    ours[5] = np.nan
    assert comparison.compare(against(ours, "fp32"), Given(sure(VARIED)))["compared_images"] == 15
    assert comparison.compare(against(ours, "int8"), Given(sure(VARIED)))["compared_images"] == 15
    assert comparison.compare(against(ours * np.nan, "int8"), Given([])) == {"compared_images": 0}


def test_without_calibration_images_noise_stands_in(against: Answers, tmp_path: Path) -> None:
    job = replace(against(sure(VARIED[:12]), "fp32"), calibration=str(tmp_path / "none"))
    assert comparison.compare(job, Given(sure(VARIED[:12])))["compared_images"] == 12
    error = refused(comparison.compare, job, Given(np.roll(sure(VARIED[:12]), 1, axis=1)))
    assert_helps(error, "12 images of noise")


def test_answers_to_other_images_are_refused(against: Answers) -> None:
    error = refused(comparison.compare, against(sure(VARIED[:5]), "fp32"), Given(sure(VARIED)))
    assert error.code == "answers-to-others"
    assert_helps(error, "answers.npy")


@pytest.mark.parametrize(
    ("precision", "size", "whole"),
    [("fp32", 1000, True), ("fp32", 999, False), ("fp16", 500, True), ("fp16", 499, False), ("int8", 249, False)],
)
def test_files_that_cannot_hold_the_weights_are_refused(
    against: Answers, precision: str, size: int, whole: bool
) -> None:
    """Of 1000 parameters."""
    job = against(sure(VARIED), precision)
    files.write_bytes(Path(job.target) / "graph", bytes(size - 100))
    files.write_bytes(Path(job.target) / "weights/0", bytes(100))
    if whole:
        comparison.refuse_small(job)
        return
    error = refused(comparison.refuse_small, job)
    assert named(error, "size_bytes") == ("weights-missing", size)
    assert_helps(error, "1,000 parameters")


# By what becomes of the last layer's weights.
FAULTS = {"none": tiny.same, "zeroed": np.zeros_like, "permuted": lambda last: np.roll(last, 1, axis=1)}
CPU = ("tflite-fp32", "tflite-fp16", "tflite-dynamic", "tflite-int8", "onnxruntime-fp32", "onnxruntime-int8")


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one colour each, of which the tiny model is sure; its answers; and it with each fault."""
    folder = tmp_path_factory.mktemp("coloured")
    shades = np.stack(np.meshgrid([0, 255], [0, 90, 170, 255], [0, 255], indexing="ij"), -1).reshape(-1, 1, 1, 3)
    tiny.write_images(folder / "images", *np.broadcast_to(shades, (16, *SHAPE)))
    for name, change in FAULTS.items():
        answer = tiny.save_tiny_onnx(folder / name, SHAPE, CLASSES, change)
        if name == "none":
            tiny.write_answers(folder / "answers.npy", answer, tiny.preprocessing(SHAPE), folder / "images")
    return folder


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", CPU)
def test_real_files_are_refused_with_a_fault_and_not_without(
    coloured: Path, tmp_path: Path, name: str, fault: str
) -> None:
    variant = Variant.parse(name)
    source = coloured / fault / ("model.onnx" if variant.runtime == "onnxruntime" else "saved_model")
    job = tiny.convert_job(source, tmp_path / name, variant.precision, coloured / "images", SHAPE)
    job = replace(job, reference=Reference(str(coloured / "answers.npy"), 264, 1e-4))
    options = loading.options(variant.runtime, {})
    registry.module(variant.runtime, "convert").convert(job, options)
    comparison.refuse_small(job)
    session = registry.module(variant.runtime, "session").open_session(Path(job.target), variant.precision, options, 1)
    if fault == "none":
        assert comparison.compare(job, session)["compared_agreement"] > 0.9
        return
    kind = "conversion-differs" if variant.precision in ("fp32", "fp16") else "conversion-broken"
    assert refused(comparison.compare, job, session).code == kind
