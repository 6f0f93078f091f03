import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages import images as stage
from stages.contracts import codec, labels
from stages.contracts.images import CALIBRATION, EVALUATION, IMAGES, TRAINING, ImagesRecord, LeftOut, Split, Twins
from stages.contracts.labels import Labels
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import archives, batches, decode
from stages.data import sets as room
from stages.data.image_file import ImageFile
from tests.fixtures.errors import named, refused

Photos = Callable[..., Path]
Edit = Callable[..., None]


@pytest.fixture
def sets(checkout: Path, edit: Edit, photo: Photos, tiny_labels: Labels) -> None:
    """Three evaluation images in folders, five calibration images of which four are taken."""
    labels.write(tiny_labels)
    for seed, name in enumerate(("0/a.jpg", "0/b.png", "1/a.jpg")):
        photo(checkout / "eval" / name, seed)
    for seed in range(5):
        photo(checkout / f"calib/{seed}.png", 100 + seed)
    edit(("evaluation.source", "eval"), ("calibration.source", "calib"), ("calibration.images", 4))


@pytest.fixture
def run(command_line: Callable[..., None]) -> Callable[[], None]:
    def main() -> None:
        command_line()
        stage.main()

    return main


Run = Callable[[], None]


def old_sets() -> None:
    for folder in (EVALUATION, CALIBRATION):
        files.write_text(folder / "old.png", "old")
    files.write_text(IMAGES, "old")


def refusal(run: Run) -> PipelineError:
    """The error of a run that fails; what was there before must still be there, and nothing else."""
    old_sets()
    before = files.sizes(Path("data")) | files.sizes(Path("reports"))
    error = refused(run)
    assert files.sizes(Path("data")) | files.sizes(Path("reports")) == before
    assert (EVALUATION / "old.png").read_text() == "old"
    assert IMAGES.read_text() == "old"
    return error


def spared(run: Run, name: str) -> PipelineError:
    """The error of a run that lacks this set alone: its folder is empty, its record says why, and the others stand."""
    old_sets()
    error = refused(run)
    lost = getattr(record(), name)
    assert (lost.images, lost.digest, lost.failed) == (0, files.combine([]), str(error))
    left = {"calibration": [], "train": ["labels.csv"]}[name]
    assert list(files.sizes({"calibration": CALIBRATION, "train": TRAINING}[name])) == left
    assert record().evaluation.failed is None and record().evaluation.images == len(table_of(EVALUATION)) > 0
    return error


def record() -> ImagesRecord:
    return codec.read(ImagesRecord, IMAGES)


def test_both_sets_are_copied_and_recorded(sets: None, run: Run) -> None:
    run()
    assert sorted(files.sizes(EVALUATION)) == ["0/a.jpg", "0/b.png", "1/a.jpg", "labels.csv"]
    expected = [(name, name[0], files.sha256(EVALUATION / name)) for name in ("0/a.jpg", "0/b.png", "1/a.jpg")]
    assert table_of(EVALUATION) == expected
    assert len(files.sizes(CALIBRATION)) == 4
    assert (record().evaluation.images, record().evaluation.classes) == (3, 2)
    assert (record().calibration.images, record().calibration.seed) == (4, 0)
    assert record().calibration.digest == files.tree_digest(CALIBRATION)


def test_what_is_left_out_is_recorded_and_printed(
    sets: None, run: Run, photo: Photos, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("eval/1/._a.jpg", "eval/.checkpoints/a.jpg"):
        photo(Path(name), 7)
    Path("eval/0/notes.txt").write_text("no image")
    Path("calib/notes.txt").write_text("no image")
    Path("eval/3").mkdir()
    run()
    assert record().evaluation.left_out == (
        LeftOut("hidden", 2, ".checkpoints/a.jpg"),
        LeftOut(".txt", 1, "0/notes.txt"),
        LeftOut("empty folder", 1, "3"),
    )
    assert record().calibration.left_out == (LeftOut(".txt", 1, "notes.txt"),)
    assert capsys.readouterr().out.splitlines() == [
        "evaluation: 2 hidden files were left out, such as .checkpoints/a.jpg",
        "evaluation: 1 of its folders has no image, such as 3",
        "evaluation: 1 file was left out: 1 .txt, such as 0/notes.txt",
        "calibration: 1 file was left out: 1 .txt, such as notes.txt",
    ]


def test_what_a_table_does_not_list_is_left_out_and_told(sets: None, run: Run) -> None:
    """But for the table itself."""
    Path("eval/labels.csv").write_text("file,label\n0/a.jpg,0\n1/a.jpg,1\n")
    run()
    assert record().evaluation.left_out == (LeftOut("not in labels.csv", 1, "0/b.png"),)
    Path("eval/sizes.csv").write_text("file,size\n")
    run()
    assert LeftOut(".csv", 1, "sizes.csv") in record().evaluation.left_out


def test_copies_count_once_and_contradicting_labels_are_named(sets: None, run: Run) -> None:
    """Also under another name and in another format."""
    with Image.open("eval/0/b.png") as original:
        original.save("eval/0/copy.bmp")
        original.save("eval/1/other label.png")
    run()
    found = record().evaluation
    assert (found.images, found.copies, found.first_copies, found.contradictions) == (4, 1, ("0/copy.bmp",), 1)
    assert found.twins == (Twins("0/b.png", "tench", "1/other label.png", "cock"),)
    assert "0/b.png and 1/other label.png show the same and are labelled tench and cock" in found.remarks
    assert [name for name, *_ in table_of(EVALUATION)] == ["0/a.jpg", "0/b.png", "1/a.jpg", "1/other label.png"]


def test_classes_without_an_image_are_told_where_most_have_some(sets: None, run: Run, photo: Photos) -> None:
    photo(Path("eval/2/a.jpg"), 50)
    run()
    assert record().evaluation.empty_classes == ("crane",)
    assert "classes without an image (1): crane" in record().evaluation.remarks


def test_old_sets_are_replaced_as_a_whole(sets: None, run: Run) -> None:
    old_sets()
    run()
    assert not (EVALUATION / "old.png").exists()
    assert not (CALIBRATION / "old.png").exists()


def test_running_again_gives_the_same_record(sets: None, run: Run) -> None:
    run()
    first = IMAGES.read_bytes()
    run()
    assert IMAGES.read_bytes() == first


def test_the_evaluation_digest_notices_a_changed_label_and_a_changed_image(sets: None, run: Run, photo: Photos) -> None:
    def digest() -> str:
        run()
        return record().evaluation.digest

    before = digest()
    Path("eval/1").rename("eval/3")
    relabelled = digest()
    photo(Path("eval/0/b.png"), 50)
    assert len({before, relabelled, digest()}) == 3


def test_the_evaluation_digest_does_not_depend_on_file_names_or_lossless_formats(sets: None, run: Run) -> None:
    run()
    before = record().evaluation.digest
    Image.open("eval/0/b.png").save("eval/0/renamed.bmp")
    Path("eval/0/b.png").unlink()
    run()
    assert record().evaluation.digest == before


def test_another_seed_takes_other_images(sets: None, run: Run, edit: Edit) -> None:
    edit(("calibration.images", 2))
    chosen = set()
    for seed in range(5):
        edit(("calibration.seed", seed))
        run()
        chosen.add(tuple(files.sizes(CALIBRATION)))
    assert len(chosen) > 1


def test_relative_sources_start_at_the_checkout_given(
    sets: None, command_line: Callable[..., None], checkout: Path
) -> None:
    main = checkout.parent / "main"
    main.mkdir()
    for name in ("eval", "calib"):
        (checkout / name).rename(main / name)
    command_line("--checkout", main)
    stage.main()
    assert record().evaluation.images == 3


def test_every_bad_image_of_a_set_is_reported(sets: None, run: Run, photo: Photos) -> None:
    cut = photo(Path("eval/1/cut.jpg"), 7)
    cut.write_bytes(cut.read_bytes()[:-200])
    Path("eval/0/page.png").write_text("<html>")
    Path("eval/0/empty.webp").touch()
    expected = [f"eval/{name}" for name in ("0/empty.webp", "0/page.png", "1/cut.jpg")]
    assert named(refusal(run), "files", "images") == ("images-bad", expected, 6)


def test_a_bad_calibration_image_is_reported(sets: None, run: Run, edit: Edit) -> None:
    Path("calib/2.png").write_text("<html>")
    edit(("calibration.images", 5))
    assert named(spared(run, "calibration"), "files", "images") == ("images-bad", ["calib/2.png"], 5)


def test_images_of_every_kind_are_taken(sets: None, run: Run, photo: Photos) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    photo(Path("eval/0/turned.jpg"), 20, exif=turned)
    photo(Path("eval/0/cmyk.jpg"), 21, "CMYK")
    photo(Path("eval/0/grey.png"), 22, "L")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100).save("eval/0/deep.png")
    run()
    assert (record().evaluation.images, record().evaluation.turned) == (7, 1)


@pytest.mark.parametrize("again", ["calib/same.png", "calib/same.bmp", "calib/same.webp"])
def test_an_image_in_both_sets_is_refused_also_in_another_lossless_format(
    sets: None, run: Run, edit: Edit, again: str
) -> None:
    Image.open("eval/0/b.png").save(again, **({"lossless": True} if again.endswith("webp") else {}))
    edit(("calibration.images", 6))
    expected = ("sets-overlap", "calibration.source", ["eval/0/b.png"], [again])
    assert named(spared(run, "calibration"), "key", "files", "others") == expected


def test_every_image_in_both_sets_is_listed(sets: None, run: Run, edit: Edit) -> None:
    edit(("calibration.source", "eval"), ("calibration.images", 3))
    expected = [f"eval/{name}" for name in ("0/a.jpg", "0/b.png", "1/a.jpg")]
    assert named(spared(run, "calibration"), "files", "others") == ("sets-overlap", expected, expected)


def test_of_many_images_in_both_sets_the_first_are_shown_with_their_number(
    sets: None, run: Run, edit: Edit, photo: Photos
) -> None:
    for seed in range(20):
        photo(Path(f"eval/1/{seed:02}.png"), 200 + seed)
    edit(("calibration.source", "eval"), ("calibration.images", 23))
    error = spared(run, "calibration")
    first, *pairs, last = str(error).splitlines()
    assert "(23)" in first and len(pairs) == 10 and pairs[0] == "  eval/0/a.jpg is eval/0/a.jpg"
    assert last == "  and 13 more" and len(named(error, "files")[1]) == 23


def test_an_image_that_differs_in_one_pixel_is_another_image(sets: None, run: Run, edit: Edit) -> None:
    image = Image.open("eval/0/b.png")
    image.putpixel((0, 0), (1, 2, 3))
    image.save("calib/near.png")
    edit(("calibration.images", 6))
    run()
    assert len(files.sizes(CALIBRATION)) == 6


def test_images_of_the_same_bytes_and_another_shape_differ(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8)
    for name, shape in (("a", (2, 8, 3)), ("b", (8, 2, 3))):
        Image.fromarray(pixels.reshape(shape)).save(tmp_path / f"{name}.png")
    assert len(set(room.looks([ImageFile(tmp_path / f"{name}.png", name) for name in "ab"]))) == 2


def test_asking_for_more_calibration_images_than_there_are_is_refused(sets: None, run: Run, edit: Edit) -> None:
    edit(("calibration.images", 6))
    assert named(spared(run, "calibration"), "source", "images") == ("calibration-too-few", "calib", 5)


def test_a_missing_folder_changes_nothing(sets: None, run: Run, edit: Edit) -> None:
    edit(("evaluation.source", "nowhere"))
    assert named(refusal(run), "file") == ("source-missing", "nowhere")


def test_without_calibration_images_the_other_sets_stand_as_they_would(sets: None, run: Run, edit: Edit) -> None:
    run()
    whole, before = record(), files.tree_digest(EVALUATION)
    edit(("calibration.source", "nowhere"))
    assert named(spared(run, "calibration"), "file") == ("source-missing", "nowhere")
    assert replace(record(), calibration=whole.calibration) == whole
    assert files.tree_digest(EVALUATION) == before
    edit(("calibration.source", "calib"))
    run()
    assert record() == whole


def test_an_unexpected_error_costs_its_set_alone_and_leaves_its_traceback(
    sets: None, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(room, "write_calibration", broken)
    assert named(spared(run, "calibration")) == ("unexpected",)
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_two_sets_that_fail_are_both_told(whole: None, run: Run, edit: Edit, photo: Photos) -> None:
    photo(Path("eval/cat/x.png"), 300)
    edit(
        ("train.source", "nowhere"), ("calibration.source", "elsewhere"), ("evaluation.source", "eval"),
        ("split.source", None),
    )  # fmt: skip
    error = refused(run)
    told = [one.failed for one in (record().calibration, record().train) if one]
    assert named(error, "file") == ("source-missing", "elsewhere") and str(error) == "; ".join(map(str, told))
    assert len(told) == 2


def test_a_calibration_file_name_may_repeat_in_another_folder(sets: None, run: Run, photo: Photos, edit: Edit) -> None:
    photo(Path("calib/sub/0.png"), 300)
    edit(("calibration.images", 6))
    run()
    assert {"0.png", "sub/0.png"} <= set(files.sizes(CALIBRATION))


def archive(name: str, photo: Photos) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for label in (0, 1):
            packed.write(photo(Path(f"made/{label}.png"), 200 + label), f"{name}/{label}/photo.png")
    return content.getvalue()


def test_both_sets_may_be_archives_of_the_same_name(
    sets: None, run: Run, server: Any, photo: Photos, edit: Edit
) -> None:
    eval = archive("eval", photo)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for seed in range(5):
            packed.write(f"calib/{seed}.png", f"{seed}.png")
    calib = content.getvalue()
    for key, place, body in (("evaluation", "a", eval), ("calibration", "b", calib)):
        url = server.add(f"{place}/photos.zip", body)
        edit((f"{key}.source", f"{url}#sha256={hashlib.sha256(body).hexdigest()}"))
    run()
    assert sorted(files.sizes(EVALUATION)) == ["0/photo.png", "1/photo.png", "labels.csv"]
    assert len(files.sizes(CALIBRATION)) == 4


@pytest.mark.parametrize("failure", ["wrong hash", "missing page", "refused connection", "no archive"])
def test_an_archive_that_cannot_be_had_changes_nothing(
    sets: None,
    run: Run,
    server: Any,
    closed_port: int,
    photo: Photos,
    edit: Edit,
    failure: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archives, "RETRY_PAUSES_S", ())
    body = b"<html>" if failure == "no archive" else archive("eval", photo)
    url = server.add("photos.zip", body)
    digest = hashlib.sha256(body).hexdigest()
    source, code = {
        "wrong hash": (f"{url}#sha256={'0' * 64}", "download-hash"),
        "missing page": (f"{url}.gone#sha256={digest}", "download-failed"),
        "refused connection": (f"http://127.0.0.1:{closed_port}/photos.zip#sha256={digest}", "download-failed"),
        "no archive": (f"{url}#sha256={digest}", "archive-unreadable"),
    }[failure]
    edit(("evaluation.source", source))
    assert refusal(run).code == code


def test_crops_are_seeded_squares_of_one_size(tmp_path: Path, photo: Photos) -> None:
    photos = [ImageFile(photo(tmp_path / f"{i}.png", i), f"{i}.png") for i in range(3)]
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        room.write_crops(photos, 5, seed, tmp_path / name)
        digests.append(files.tree_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]
    found = batches.files(tmp_path / "a")
    assert [path.name for path in found] == [f"crop_{i:05d}.png" for i in range(5)]
    assert {decode.decode(path).size for path in found} == {(room.CROP_SIDE, room.CROP_SIDE)}
    assert len({path.read_bytes() for path in found}) == 5


@pytest.fixture
def whole(checkout: Path, edit: Edit, photo: Photos) -> None:
    """Two classes of ten images, a third of one, for training and evaluation; five more for calibration."""
    names = ("cat", "dog", "rare")
    labels.write(Labels(names, ("",) * 3))
    for seed in range(21):
        photo(checkout / "whole" / names[seed // 10] / f"{seed}.png", seed)
    for seed in range(5):
        photo(checkout / f"calib/{seed}.png", 100 + seed)
    edit(
        ("model.name", "custom"), ("model.path", "trained"), ("custom.size", [8, 8]), ("split.source", "whole"),
        ("evaluation.source", "split"), ("calibration.source", "calib"), ("calibration.images", 4),
    )  # fmt: skip


def table_of(folder: Path) -> list[tuple[str, ...]]:
    lines = (folder / "labels.csv").read_text().splitlines()
    return [tuple(line.split(",")) for line in lines[1:]]


def test_one_source_is_split_into_what_trains_and_what_judges(whole: None, run: Run) -> None:
    run()
    eval, trained = table_of(EVALUATION), table_of(TRAINING)
    assert len(eval) == 4 and len(trained) == 17
    assert {name for name, *_ in eval} | {name for name, *_ in trained} == {
        path.relative_to("whole").as_posix() for path in batches.files(Path("whole"))
    }
    assert sorted(label for _, label, _ in eval) == ["0", "0", "1", "1"]
    assert (TRAINING / "labels.csv").read_text().startswith("file,label,group\n")
    assert (EVALUATION / "labels.csv").read_text().startswith("file,label,sha256\n")
    for folder, rows in ((EVALUATION, eval), (TRAINING, trained)):
        assert sorted(files.sizes(folder)) == sorted([row[0] for row in rows] + ["labels.csv"])
    assert record().split == Split("whole", 0.2, seed=0, images=21, near_duplicates=0)
    train = record().train
    assert train and (train.source, train.images, train.classes) == ("split", 17, 3)
    assert (record().evaluation.source, record().evaluation.images) == ("split", 4)


def test_another_seed_and_share_split_otherwise(whole: None, run: Run, edit: Edit) -> None:
    found = []
    for seed, share in ((0, 0.2), (0, 0.2), (1, 0.2), (0, 0.5)):
        edit(("split.seed", seed), ("split.evaluation", share))
        run()
        found.append(table_of(EVALUATION))
    assert found[0] == found[1] != found[2]
    assert [len(rows) for rows in found] == [4, 4, 4, 10]


def test_a_copy_is_on_the_same_side_and_has_the_number_of_its_original(whole: None, run: Run) -> None:
    for path in batches.files(Path("whole")):
        with Image.open(path) as image:
            image.resize((48, 32)).save(path.with_name(f"copy of {path.name}"))
    run()
    assert record().split == Split("whole", 0.2, seed=0, images=42, near_duplicates=21)
    eval = {name for name, *_ in table_of(EVALUATION)}
    groups = {name: group for name, _, group in table_of(TRAINING)}
    for path in batches.files(Path("whole")):
        original = path.relative_to("whole").as_posix().replace("copy of ", "")
        copy = original.replace("/", "/copy of ")
        assert (original in eval) == (copy in eval)
        assert groups.get(original) == groups.get(copy)
    assert len(set(groups.values())) == len(groups) / 2


def test_what_trains_also_calibrates_if_it_is_asked_to(whole: None, run: Run, edit: Edit) -> None:
    edit(("calibration.source", "split"), ("calibration.images", 6))
    run()
    calib = set(files.sizes(CALIBRATION))
    assert len(calib) == 6
    assert calib <= {name for name, *_ in table_of(TRAINING)}
    edit(("calibration.images", 18))
    assert named(spared(run, "calibration"), "source", "images") == ("calibration-too-few", "split", 17)


def test_training_images_may_be_a_source_of_their_own(whole: None, run: Run, edit: Edit, photo: Photos) -> None:
    for seed, name in enumerate(("cat/x.png", "dog/y.png")):
        photo(Path("eval") / name, 300 + seed)
    edit(("train.source", "whole"), ("evaluation.source", "eval"), ("split.source", None))
    run()
    assert len(table_of(TRAINING)) == 21
    assert [name for name, *_ in table_of(EVALUATION)] == ["cat/x.png", "dog/y.png"]
    train = record().train
    assert record().split is None and train and train.source == "whole"
    shutil.copy("eval/cat/x.png", "whole/cat/same.png")
    expected = ("sets-overlap", "train.source", ["eval/cat/x.png"], ["whole/cat/same.png"])
    assert named(spared(run, "train"), "key", "files", "others") == expected


def test_a_model_that_is_not_trained_has_no_training_images(sets: None, run: Run) -> None:
    files.write_text(TRAINING / "old.png", "of an earlier run")
    run()
    assert files.sizes(TRAINING) == {"labels.csv": len("file,label,group\n")}
    assert record().train is record().split is None


def test_a_model_that_is_trained_on_for_int8_has_training_images(
    whole: None, run: Run, edit: Edit, photo: Photos
) -> None:
    photo(Path("eval/cat/x.png"), 300)
    edit(("model.path", "own.keras"), ("evaluation.source", "eval"), ("train.source", "whole"))
    run()
    assert table_of(TRAINING) == []
    edit(("variants", ["savedmodel-fp32", "tflite-int8-qat"]))
    run()
    assert len(table_of(TRAINING)) == 21
    train = record().train
    assert train and train.source == "whole"


@pytest.mark.parametrize("block", ["split", "train"])
def test_every_bad_image_of_what_is_searched_for_copies_is_reported(
    whole: None, run: Run, edit: Edit, photo: Photos, block: str
) -> None:
    if block == "train":
        photo(Path("eval/cat/x.png"), 300)
        edit(("train.source", "whole"), ("evaluation.source", "eval"), ("split.source", None))
    Path("whole/cat/page.png").write_text("<html>")
    Path("whole/rare/empty.png").touch()
    expected = ["whole/cat/page.png", "whole/rare/empty.png"]
    error = spared(run, "train") if block == "train" else refusal(run)
    assert named(error, "files", "images") == ("images-bad", expected, 23)


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_to_split_are_refused(
    checkout: Path, edit: Edit, photo: Photos, run: Run, whole: None, count: int
) -> None:
    for seed in range(count):
        photo(checkout / f"few/{'cat' if seed else 'dog'}/{seed}.png", seed)
    edit(("split.source", "few"))
    assert named(refusal(run), "images", "groups") == ("split-impossible", count, count)
