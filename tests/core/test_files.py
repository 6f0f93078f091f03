import csv
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from stages.core import errors, files
from stages.core.errors import PipelineError
from tests.fixtures.errors import assert_helps, named, refused


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_written_with_its_folders(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a/b.txt", "né\n")
    assert (tmp_path / "a/b.txt").read_bytes() == "né\n".encode()
    assert names(tmp_path / "a") == ["b.txt"]


def test_json_keeps_the_order_of_keys(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": 1, "a": ["é"]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8").split() == [
        "{",
        '"b":',
        "1,",
        '"a":',
        "[",
        '"é"',
        "]",
        "}",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), object()], ids=["nan", "infinity", "not JSON"])
def test_json_that_cannot_be_written_leaves_the_old_file_alone(tmp_path: Path, value: object) -> None:
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises((PipelineError, TypeError)):
        files.write_json(tmp_path / "a.json", {"value": value})
    assert json.loads((tmp_path / "a.json").read_text()) == 1
    assert names(tmp_path) == ["a.json"]


def table(folder: Path, content: bytes) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content)
    return path


def test_every_refusal_has_a_code_its_file_and_a_remedy(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    cases = [
        ("json-not-finite", missing, lambda path: files.write_json(path, float("nan"))),
        ("json-missing", missing, files.read_json),
        ("json-damaged", table(tmp_path, b"{"), files.read_json),
        ("table-missing", missing, lambda path: list(files.parse_csv(path, dict, "rows"))),
    ]
    for code, path, call in cases:
        error = refused(call, path)
        assert named(error, "file") == (code, str(path))
        assert_helps(error, str(path))


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"a\n1\n", "table-columns"), (b"\xff\xfe", "table-not-csv"), (b"a,b\n1,x\n", "table-damaged")],
)
def test_a_table_that_is_refused_is_named(tmp_path: Path, content: bytes, code: str) -> None:
    path = table(tmp_path, content)

    def read() -> None:
        list(files.read_csv(path, "a", "b"))
        list(files.parse_csv(path, lambda row: int(row["b"]), "numbers"))

    assert named(refused(read), "file") == (code, str(path))


def test_a_text_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        files.write_text(tmp_path / "a.txt", "x" * 100_000 + "\ud800")
    assert names(tmp_path) == []


def test_a_missing_record_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"model\.json is missing: run `make repro`, which writes it"):
        files.read_json(tmp_path / "model.json")


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"], ids=["empty", "cut short", "not UTF-8"])
def test_a_damaged_record_says_to_delete_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(PipelineError, match=r"model\.json is not valid JSON \(.*\): delete it and run `make repro`"):
        files.read_json(tmp_path / "model.json")


def test_a_new_directory_takes_its_name_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep/target"
    with files.new_directory(target) as folder:
        (folder / "a").write_text("new")
        assert not target.exists()
    assert (target / "a").read_text() == "new"
    assert names(target.parent) == ["target"]


def test_a_new_directory_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "target/sub").mkdir(parents=True)
    with files.new_directory(tmp_path / "target") as folder:
        (folder / "a").write_text("new")
    assert names(tmp_path / "target") == ["a"]


def test_a_new_directory_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target/a").write_text("old")
    with pytest.raises(PipelineError), files.new_directory(tmp_path / "target") as folder:
        (folder / "a").write_text("half")
        raise PipelineError("stop")
    assert (tmp_path / "target/a").read_text() == "old"
    assert names(tmp_path) == ["target"]


def test_only_what_a_killed_process_left_for_that_very_name_goes(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    gone = f".a*.{ended.pid}.x.tmp"
    stay = (
        f".a*.{os.getpid()}.x.tmp",
        ".a*.mine.tmp",
        ".a*.mine.x.tmp",
        f".ab.{ended.pid}.x.tmp",
        f".a*.{10**30}x.y.tmp",
    )
    for name in (gone, *stay):
        (tmp_path / name).mkdir()
    with files.new_directory(tmp_path / "a*"):
        pass
    assert names(tmp_path) == sorted([*stay, "a*"])


def test_sha256_of_a_file_longer_than_one_piece(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_combine_depends_on_order_and_boundaries() -> None:
    assert len({files.combine(parts) for parts in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""])}) == 4


def test_sizes_name_every_file_below_a_folder(tmp_path: Path) -> None:
    files.write_text(tmp_path / "b/c.txt", "123")
    files.write_text(tmp_path / "a.txt", "1")
    assert files.sizes(tmp_path) == {"a.txt": 1, "b/c.txt": 3}


def test_a_tree_digest_notices_content_and_names(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "1")
    before = files.tree_digest(tmp_path)
    files.write_text(tmp_path / "a.txt", "2")
    changed = files.tree_digest(tmp_path)
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert len({before, changed, files.tree_digest(tmp_path)}) == 3
    files.write_text(tmp_path / "a.txt", "1")
    (tmp_path / "b.txt").unlink()
    assert files.tree_digest(tmp_path) == before


def test_a_full_disk_becomes_a_sentence_and_keeps_the_old_file(
    tiny_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_disk)
    files.write_text(Path("reports/a.json"), "old")
    with pytest.raises(SystemExit) as end:
        errors.run(lambda: files.write_text(Path("reports/a.json"), "x" * 200_000))
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("error: no space left on the disk of reports/a.json (0 MB free): free some space there")
    assert message.count("\n") == 1
    assert Path("reports/a.json").read_text() == "old"
    assert names(Path("reports")) == ["a.json"]


def test_a_full_disk_leaves_no_half_directory(tiny_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"), files.new_directory(tiny_disk / "models") as folder:
        (folder / "weights").write_bytes(bytes(200_000))
    assert names(tiny_disk) == []


def test_a_full_temporary_disk_is_not_blamed_on_the_checkout(
    tiny_disk: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tiny_disk))
    with pytest.raises(SystemExit):
        errors.run(lambda: files.write_text(tiny_disk / "unpacked/photo.jpg", "x" * 200_000))
    assert f"{tiny_disk}" in capsys.readouterr().err


FORMULAS = ['=HYPERLINK("http://x")', "@SUM(1)", "+1+2", "-2+3", "\t=1", "\r=1", "\n=1", "＝1", "'=1", "'s", "'"]  # noqa: RUF001


@pytest.mark.parametrize("name", FORMULAS)
def test_a_name_is_no_formula_in_a_table_for_people(tmp_path: Path, name: str) -> None:
    files.write_csv(tmp_path / "a.csv", ("name", "value"), [(name, "-0.5"), ("plain", -3)], for_people=True)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1] == [f"'{name}", "-0.5"] and rows[2] == ["plain", "-3"]
    assert files.name_in(rows[1][0]) == name and files.name_in("plain") == "plain" and files.name_in("-0.5") == "-0.5"
