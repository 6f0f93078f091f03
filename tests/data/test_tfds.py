"""TensorFlow Datasets is neither installed here nor can it download: a stand-in answers as its 4.9 does.

It takes the arguments of tfds.load and returns a real tf.data.Dataset of examples, and an info with features and
splits. Images are decoded unless the decoder says otherwise, a feature that does not exist is refused as FeaturesDict
does it, a ClassLabel without names counts, and -1 means no label.
"""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.contracts.labels import Labels
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.data import sources
from tests.fixtures.errors import named, refused


def png(seed: int) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)).save(content, "PNG")
    return content.getvalue()


class SkipDecoding: ...


class DatasetNotFoundError(ValueError): ...


class Catalogue:
    """Data sets by name: the numbers of their labels by split, and the names of their classes."""

    def __init__(self) -> None:
        self.sets: dict[str, tuple[dict[str, list[int]], dict[str, Any]]] = {}
        self.asked: list[tuple[str, str]] = []

    def add(self, name: str, names: list[str], **splits: list[int]) -> None:
        features = {"image": SimpleNamespace(shape=(None, None, 3)), "label": SimpleNamespace(names=names)}
        self.sets[name] = (splits, features)

    def load(self, name: str, *, split: str, decoders: dict[str, Any], as_supervised: bool, with_info: bool) -> Any:
        assert with_info and not as_supervised
        self.asked.append((name, split))
        if name not in self.sets:
            raise DatasetNotFoundError(f"Dataset {name} not found.\nAvailable datasets:\n\t- mnist\n\t- cifar10")
        splits, features = self.sets[name]
        if split not in splits:
            raise ValueError(f"Unknown split {split!r}. Should be one of {list(splits)}.")
        if unknown := set(decoders) - set(features):
            raise ValueError(f"Error while flattening dict: Available keys: {list(features)}. Unrecognized: {unknown}")
        info = SimpleNamespace(features=features, splits=dict.fromkeys(splits))
        return self.examples(splits[split], set(features), decoders), info

    def examples(self, numbers: list[int], features: set[str], decoders: dict[str, Any]) -> Any:
        tf = tensorflow()
        columns = {"image": [png(seed) for seed in range(len(numbers))], "label": np.int64(numbers)}
        data = tf.data.Dataset.from_tensor_slices({name: columns[name] for name in sorted(features)})
        if isinstance(decoders.get("image"), SkipDecoding):
            return data
        return data.map(lambda example: {**example, "image": tf.io.decode_png(example["image"])})


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    module, found = ModuleType("tensorflow_datasets"), Catalogue()
    module.load, module.decode = found.load, SimpleNamespace(SkipDecoding=SkipDecoding)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return found


@pytest.fixture
def classes(tmp_path: Path, tiny_labels: Labels) -> Callable[[str], list[int | None]]:
    def read(source: str) -> list[int | None]:
        return [image.label for image in sources.labelled(source, tiny_labels, tmp_path, tmp_path).images]

    return read


Classes = Callable[[str], list[int | None]]


def refusal(classes: Classes, source: str) -> PipelineError:
    error = refused(classes, source)
    assert "\n" not in str(error)
    assert error.values["source"] == source
    return error


def test_the_bytes_of_the_images_are_kept(catalogue: Catalogue, tmp_path: Path, tiny_labels: Labels) -> None:
    catalogue.add("birds", ["cock", "tench"], test=[0, 1, 0])
    found = sources.labelled("tfds:birds", tiny_labels, tmp_path, tmp_path).images
    assert [(image.name, image.label) for image in found] == [("000000.png", 1), ("000001.png", 0), ("000002.png", 1)]
    assert [image.path.read_bytes() for image in found] == [png(seed) for seed in range(3)]


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("tfds:birds", ("birds", "test")),
        ("tfds:birds:train[:10%]", ("birds", "train[:10%]")),
        ("tfds:birds/small:validation", ("birds/small", "validation")),
    ],
)
def test_config_and_split_are_passed_on(
    catalogue: Catalogue, classes: Classes, source: str, asked: tuple[str, str]
) -> None:
    catalogue.add(asked[0], ["tench"], **{asked[1]: [0]})
    classes(source)
    assert catalogue.asked == [asked]


def test_classes_are_matched_by_wordnet_id_too(catalogue: Catalogue, classes: Classes) -> None:
    catalogue.add("imagenette", ["n03126707", "n01440764"], test=[0, 1])
    assert classes("tfds:imagenette") == [3, 0]


def test_as_many_classes_of_other_names_are_matched_by_their_place(catalogue: Catalogue, classes: Classes) -> None:
    catalogue.add("numbered", ["0", "1", "2", "3"], test=[3, 1])
    assert classes("tfds:numbered") == [3, 1]


def test_classes_that_the_model_does_not_have_are_refused_if_they_are_shown(
    catalogue: Catalogue, classes: Classes
) -> None:
    catalogue.add("pets", ["dog", "tench", "cat"], test=[0, 1, 2, 0], tame=[1, 1])
    assert named(refusal(classes, "tfds:pets"), "classes") == ("tfds-unknown-classes", ["cat", "dog"])
    assert classes("tfds:pets:tame") == [0, 0]


def test_a_split_without_labels_is_refused_with_the_others(catalogue: Catalogue, classes: Classes) -> None:
    catalogue.add("imagenet2012", ["tench"], train=[0], validation=[0], test=[-1])
    error = refusal(classes, "tfds:imagenet2012")
    assert named(error, "splits") == ("tfds-no-labels", ["train", "validation", "test"])


def test_a_data_set_without_labels_is_refused_with_its_features(catalogue: Catalogue, classes: Classes) -> None:
    catalogue.add("faces", [], test=[0])
    assert named(refusal(classes, "tfds:faces"), "features") == ("tfds-no-classes", ["image", "label"])
    del catalogue.sets["faces"][1]["label"]
    assert named(refusal(classes, "tfds:faces"), "features") == ("tfds-no-classes", ["image"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("tfds:nothing", "DatasetNotFoundError: Dataset nothing not found."),
        ("tfds:birds:nowhere", "ValueError: Unknown split 'nowhere'. Should be one of ['test']."),
        ("tfds:sounds", "ValueError: Error while flattening dict: Available keys: ['label']. Unrecognized: {'image'}"),
    ],
)
def test_what_the_library_raises_becomes_one_sentence(
    catalogue: Catalogue, classes: Classes, source: str, reason: str
) -> None:
    catalogue.add("birds", ["tench"], test=[0])
    catalogue.sets["sounds"] = ({"test": [0]}, {"label": SimpleNamespace(names=["tench"])})
    split = "nowhere" if "nowhere" in source else "test"
    error = refusal(classes, source)
    assert named(error, "split") == ("tfds-load", split)
    assert reason in str(error)


def test_without_the_library_the_command_that_installs_it_is_shown(
    classes: Classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    error = refusal(classes, "tfds:mnist")
    assert error.code == "tfds-missing"
    command = str(error).partition("run `")[2].removesuffix(" install tensorflow-datasets`")
    assert subprocess.run([*command.split(), "--version"], capture_output=True, check=False).returncode == 0


def test_calibration_takes_the_train_split_without_labels(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.add("birds", ["dog"], train=[-1, 0], test=[0])
    found = sources.unlabelled("tfds:birds", tmp_path, tmp_path).images
    assert [(image.name, image.label) for image in found] == [("000000.png", None), ("000001.png", None)]
    assert catalogue.asked == [("birds", "train")]
