"""Every file below a folder is an image or is counted with the reason why not."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from stages.data.census import Census, census
from tests.fixtures.errors import named, refused


def image(path: Path, format: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (200, 10, 10)).save(path, format)


def names(found: Census, folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in found.images]


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.jfif", "JPEG"),
        ("a.ppm", "PPM"),
        ("a.JPE", "JPEG"),
        ("a.img", "PNG"),
        ("without", "WEBP"),
        ("a.txt", "BMP"),
        ("a.tga", "TGA"),
        ("a.jp2", "JPEG2000"),
    ],
)
def test_what_pillow_reads_is_an_image_whatever_its_suffix(tmp_path: Path, name: str, format: str) -> None:
    image(tmp_path / "red" / name, format)
    found = census(tmp_path)
    assert (names(found, tmp_path), found.left_out.total()) == ([f"red/{name}"], 0)


@pytest.mark.parametrize("name", ["a.png", "a.jfif", "a.ppm"])
def test_a_damaged_image_is_still_one_for_its_reader_to_refuse(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no image")
    assert names(census(tmp_path), tmp_path) == [name]


@pytest.mark.parametrize("content", ["%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "file,label\n", ""])
def test_other_files_are_counted_by_their_suffix(tmp_path: Path, content: str) -> None:
    """A page of PostScript is a program."""
    for name in ("notes.eps", "red/more.eps", "bare"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found = census(tmp_path)
    assert (found.images, found.left_out) == ([], {".eps": 2, "without a suffix": 1})
    assert found.first[".eps"] == "notes.eps"


def test_hidden_files_and_folders_are_counted_and_not_used(tmp_path: Path) -> None:
    for name in ("red/a.png", "red/._a.png", ".ipynb_checkpoints/a-checkpoint.png", "red/.cache/deep/b.png"):
        image(tmp_path / name)
    found = census(tmp_path)
    assert names(found, tmp_path) == ["red/a.png"]
    assert (found.left_out, found.first) == (
        {"hidden": 3},
        {"hidden": ".ipynb_checkpoints/a-checkpoint.png"},
    )


@pytest.mark.parametrize("name", ["@home", "#1", "snapshot", "recycled", "temporary", "network", "gsdata", "found"])
def test_classes_may_be_called_much_as_folders_of_systems(tmp_path: Path, name: str) -> None:
    image(tmp_path / name / "a.png")
    assert names(census(tmp_path), tmp_path) == [f"{name}/a.png"]


def test_links_to_folders_are_followed_once_and_a_circle_ends(tmp_path: Path) -> None:
    image(tmp_path / "elsewhere/a.png")
    for folder in ("photos/red", "photos/blue"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "photos/green").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/green again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos/red/up").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/red/gone.png").symlink_to(tmp_path / "nowhere.png")
    found = census(tmp_path / "photos")
    assert names(found, tmp_path / "photos") == ["green/a.png"]
    assert found.left_out == {"dead link": 1, "second way to a folder": 2}
    assert (found.first["second way to a folder"], found.again) == ("green again", ["green again", "red/up"])


@pytest.mark.parametrize(
    ("link", "target"),
    [("alpha", "cat"), ("kitty", "cat"), ("all/cat", "cat"), ("alpha", "cat/deep"), ("alpha", "."), ("ant/all", "cat")],
)
def test_a_folder_goes_by_its_own_name_and_not_by_that_of_a_link(tmp_path: Path, link: str, target: str) -> None:
    for name in ("ant/a.png", "cat/a.png", "cat/deep/a.png", "dog/a.png"):
        image(tmp_path / name)
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / target)
    found = census(tmp_path)
    assert names(found, tmp_path) == ["ant/a.png", "cat/a.png", "cat/deep/a.png", "dog/a.png"]
    assert (found.left_out, found.first) == ({"second way to a folder": 1}, {"second way to a folder": link})


def test_of_links_to_a_folder_elsewhere_the_one_nearest_the_top_names_it(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        image(tmp_path / "store" / name / "a.png")
        (tmp_path / "photos/all").mkdir(parents=True, exist_ok=True)
        for link in (f"photos/all/{name}", f"photos/{name}"):
            (tmp_path / link).symlink_to(tmp_path / "store" / name)
    found = census(tmp_path / "photos")
    assert names(found, tmp_path / "photos") == ["cat/a.png", "dog/a.png"]
    assert found.again == ["all/cat", "all/dog"]


@pytest.mark.parametrize("target", ["itself", "nowhere", "red/a.png/deeper"])
@pytest.mark.parametrize("name", ["itself", "red/itself", ".hidden/itself"])
def test_a_link_that_leads_nowhere_is_left_out_whatever_the_system_calls_that(
    tmp_path: Path, name: str, target: str
) -> None:
    image(tmp_path / "red/a.png")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / name).symlink_to(tmp_path / name if target == "itself" else tmp_path / target)
    found = census(tmp_path)
    assert names(found, tmp_path) == ["red/a.png"]
    assert found.first == ({} if name.startswith(".") else {"dead link": name})


def test_a_pipe_is_no_image_and_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert census(tmp_path).left_out == {"no regular file": 1}


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[[Path], object]:
    """`census` as somebody who is not root, for whom permissions count."""
    if os.geteuid() == 0:
        pytest.skip("root reads what nobody may")
    return census


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, as_nobody: Callable[[Path], object]) -> None:
    image(tmp_path / "red/a.png")
    (tmp_path / "red").chmod(0)
    error = refused(as_nobody, tmp_path)
    (tmp_path / "red").chmod(0o700)
    assert named(error, "file") == ("folder-unreadable", str(tmp_path / "red"))


def test_what_the_system_refuses_is_told_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "red/a.png")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "red":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    error = refused(census, tmp_path)
    assert named(error, "file") == ("folder-unreadable", str(tmp_path / "red"))
    assert "Permission denied" in str(error)


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """No record could hold it; one that is left out is written with numbers."""
    (tmp_path / "red").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/red/n\xe9.txt")).write_text("notes")
    assert census(tmp_path).first == {".txt": "red/n\\udce9.txt"}
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/red/caf\xe9.png")).write_bytes(b"")
    assert named(refused(census, tmp_path), "file") == ("name-not-utf8", f"{tmp_path}/red/caf\\xe9.png")


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir",
        "@EADIR",
        "#recycle",
        "#snapshot",
        "@tmp",
        "@sharesnap",
        "@Recycle",
        "@Recently-Snapshot",
        "@Transcode",
        "~snapshot",
        "$RECYCLE.BIN",
        "System Volume Information",
        "FOUND.000",
        "lost+found",
        "__MACOSX",
        "Network Trash Folder",
        "Temporary Items",
        "TheVolumeSettingsFolder",
        "_gsdata_",
    ],
)
def test_folders_of_systems_are_no_classes_and_hold_no_images(tmp_path: Path, name: str) -> None:
    for file in ("red/a.png", f"red/{name}/a.png/thumb.png", f"{name}/S-1/b.png"):
        image(tmp_path / file)
    found = census(tmp_path)
    assert names(found, tmp_path) == ["red/a.png"]
    assert (found.left_out, found.first) == (
        {"hidden": 2},
        {"hidden": min(f"{name}/S-1/b.png", f"red/{name}/a.png/thumb.png")},
    )
