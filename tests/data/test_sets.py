import hashlib
import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages import images as stage
from stages.contracts import labels, paths
from stages.contracts.labels import Labels
from stages.core import files
from stages.core.errors import PipelineError
from stages.data import batches, decode
from stages.data.image_file import Photo

Photos = Callable[..., Path]
Edit = Callable[..., None]


@pytest.fixture
def sets(checkout: Path, edit: Edit, photo: Photos, tiny_labels: Labels) -> None:
    """Three evaluation images in folders, five calibration images of which four are taken."""
    labels.write(tiny_labels)
    for seed, name in enumerate(("0/a.jpg", "0/b.png", "1/a.jpg")):
        photo(checkout / "exam" / name, seed)
    for seed in range(5):
        photo(checkout / f"tune/{seed}.png", 100 + seed)
    edit(("evaluation.source", "exam"), ("calibration.source", "tune"), ("calibration.images", 4))


@pytest.fixture
def run(command_line: Callable[..., None]) -> Callable[[], None]:
    def main() -> None:
        command_line()
        stage.main()

    return main


Run = Callable[[], None]


def old_sets() -> None:
    for folder in (paths.EVALUATION, paths.CALIBRATION):
        files.write_text(folder / "old.png", "old")
    files.write_json(paths.IMAGES, "old")


def refusal(run: Run) -> str:
    """The reason of a run that fails; what was there before must still be there, and nothing else."""
    old_sets()
    before = files.sizes(Path("data")) | files.sizes(Path("reports"))
    with pytest.raises(PipelineError) as caught:
        run()
    assert files.sizes(Path("data")) | files.sizes(Path("reports")) == before
    assert (paths.EVALUATION / "old.png").read_text() == "old"
    assert files.read_json(paths.IMAGES) == "old"
    return str(caught.value)


def test_both_sets_are_copied_and_recorded(sets: None, run: Run) -> None:
    run()
    assert sorted(files.sizes(paths.EVALUATION)) == ["0/a.jpg", "0/b.png", "1/a.jpg", "labels.csv"]
    expected = [(name, name[0], files.sha256(paths.EVALUATION / name)) for name in ("0/a.jpg", "0/b.png", "1/a.jpg")]
    assert table_of(paths.EVALUATION) == expected
    assert len(files.sizes(paths.CALIBRATION)) == 4
    record = files.read_json(paths.IMAGES)
    assert (record["evaluation"]["images"], record["evaluation"]["classes"]) == (3, 2)
    assert record["calibration"]["images"] == 4
    assert record["calibration"]["digest"] == files.tree_digest(paths.CALIBRATION)


def test_old_sets_are_replaced_as_a_whole(sets: None, run: Run) -> None:
    old_sets()
    run()
    assert not (paths.EVALUATION / "old.png").exists()
    assert not (paths.CALIBRATION / "old.png").exists()


def test_running_again_gives_the_same_record(sets: None, run: Run) -> None:
    run()
    first = paths.IMAGES.read_bytes()
    run()
    assert paths.IMAGES.read_bytes() == first


def test_the_evaluation_digest_notices_a_changed_label_and_a_changed_image(sets: None, run: Run, photo: Photos) -> None:
    def digest() -> str:
        run()
        return str(files.read_json(paths.IMAGES)["evaluation"]["digest"])

    before = digest()
    Path("exam/1").rename("exam/3")
    relabelled = digest()
    photo(Path("exam/0/b.png"), 50)
    assert len({before, relabelled, digest()}) == 3


def test_the_evaluation_digest_does_not_depend_on_file_names_or_lossless_formats(sets: None, run: Run) -> None:
    run()
    before = files.read_json(paths.IMAGES)["evaluation"]["digest"]
    Image.open("exam/0/b.png").save("exam/0/renamed.bmp")
    Path("exam/0/b.png").unlink()
    run()
    assert files.read_json(paths.IMAGES)["evaluation"]["digest"] == before


def test_another_seed_takes_other_images(sets: None, run: Run, edit: Edit) -> None:
    edit(("calibration.images", 2))
    chosen = set()
    for seed in range(5):
        edit(("calibration.seed", seed))
        run()
        chosen.add(tuple(files.sizes(paths.CALIBRATION)))
    assert len(chosen) > 1


def test_relative_sources_start_at_the_checkout_given(
    sets: None, command_line: Callable[..., None], checkout: Path
) -> None:
    main = checkout.parent / "main"
    main.mkdir()
    for name in ("exam", "tune"):
        (checkout / name).rename(main / name)
    command_line("--checkout", main)
    stage.main()
    assert files.read_json(paths.IMAGES)["evaluation"]["images"] == 3


def test_every_bad_image_of_a_set_is_reported(sets: None, run: Run, photo: Photos) -> None:
    cut = photo(Path("exam/1/cut.jpg"), 7)
    cut.write_bytes(cut.read_bytes()[:-200])
    Path("exam/0/page.png").write_text("<html>")
    Path("exam/0/empty.webp").touch()
    lines = refusal(run).splitlines()
    assert lines[0] == "bad images (3 of 6):"
    assert all(line.endswith(": replace or remove it") for line in lines[1:])
    for line, name in zip(lines[1:], ("0/empty.webp", "0/page.png", "1/cut.jpg"), strict=True):
        assert line.strip().startswith(f"exam/{name} cannot be read as an image (")


def test_a_bad_calibration_image_is_reported(sets: None, run: Run, edit: Edit) -> None:
    Path("tune/2.png").write_text("<html>")
    edit(("calibration.images", 5))
    message = refusal(run)
    assert message.startswith("bad images (1 of 5):\n  tune/2.png cannot be read")


def test_images_of_every_kind_are_taken(sets: None, run: Run, photo: Photos) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    photo(Path("exam/0/turned.jpg"), 20, exif=turned)
    photo(Path("exam/0/cmyk.jpg"), 21, "CMYK")
    photo(Path("exam/0/grey.png"), 22, "L")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100).save("exam/0/deep.png")
    run()
    assert files.read_json(paths.IMAGES)["evaluation"]["images"] == 7


@pytest.mark.parametrize("again", ["tune/same.png", "tune/same.bmp", "tune/same.webp"])
def test_an_image_in_both_sets_is_refused_also_in_another_lossless_format(
    sets: None, run: Run, edit: Edit, again: str
) -> None:
    Image.open("exam/0/b.png").save(again, **({"lossless": True} if again.endswith("webp") else {}))
    edit(("calibration.images", 6))
    assert refusal(run) == (
        "photographs that are in the evaluation set and in the calibration set (1); "
        f"point calibration.source at other images:\n  exam/0/b.png is {again}"
    )


def test_every_image_in_both_sets_is_listed(sets: None, run: Run, edit: Edit) -> None:
    edit(("calibration.source", "exam"), ("calibration.images", 3))
    lines = refusal(run).splitlines()
    assert lines[0].endswith(" (3); point calibration.source at other images:")
    assert [line.strip() for line in lines[1:]] == [
        f"exam/{name} is exam/{name}" for name in ("0/a.jpg", "0/b.png", "1/a.jpg")
    ]


def test_an_image_that_differs_in_one_pixel_is_another_image(sets: None, run: Run, edit: Edit) -> None:
    image = Image.open("exam/0/b.png")
    image.putpixel((0, 0), (1, 2, 3))
    image.save("tune/near.png")
    edit(("calibration.images", 6))
    run()
    assert len(files.sizes(paths.CALIBRATION)) == 6


def test_images_of_the_same_bytes_and_another_shape_differ(tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8)
    for name, shape in (("a", (2, 8, 3)), ("b", (8, 2, 3))):
        Image.fromarray(pixels.reshape(shape)).save(tmp_path / f"{name}.png")
    assert len(set(stage.pixel_digests([Photo(tmp_path / f"{name}.png", name) for name in "ab"]))) == 2


def test_asking_for_more_calibration_images_than_there_are_is_refused(sets: None, run: Run, edit: Edit) -> None:
    edit(("calibration.images", 6))
    assert refusal(run) == "calibration.images asks for 6, but tune holds 5 images"


def test_a_missing_folder_changes_nothing(sets: None, run: Run, edit: Edit) -> None:
    edit(("calibration.source", "nowhere"))
    assert "there is no folder nowhere" in refusal(run)


def test_a_calibration_file_name_may_repeat_in_another_folder(sets: None, run: Run, photo: Photos, edit: Edit) -> None:
    photo(Path("tune/sub/0.png"), 300)
    edit(("calibration.images", 6))
    run()
    assert {"0.png", "sub/0.png"} <= set(files.sizes(paths.CALIBRATION))


def archive(name: str, photo: Photos) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for label in (0, 1):
            packed.write(photo(Path(f"made/{label}.png"), 200 + label), f"{name}/{label}/photo.png")
    return content.getvalue()


def test_both_sets_may_be_archives_of_the_same_name(
    sets: None, run: Run, server: Any, photo: Photos, edit: Edit
) -> None:
    exam = archive("exam", photo)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for seed in range(5):
            packed.write(f"tune/{seed}.png", f"{seed}.png")
    tune = content.getvalue()
    for key, place, body in (("evaluation", "a", exam), ("calibration", "b", tune)):
        url = server.add(f"{place}/photos.zip", body)
        edit((f"{key}.source", f"{url}#sha256={hashlib.sha256(body).hexdigest()}"))
    run()
    assert sorted(files.sizes(paths.EVALUATION)) == ["0/photo.png", "1/photo.png", "labels.csv"]
    assert len(files.sizes(paths.CALIBRATION)) == 4


@pytest.mark.parametrize("failure", ["wrong hash", "missing page", "refused connection", "no archive"])
def test_an_archive_that_cannot_be_had_changes_nothing(
    sets: None, run: Run, server: Any, closed_port: int, photo: Photos, edit: Edit, failure: str
) -> None:
    body = b"<html>" if failure == "no archive" else archive("exam", photo)
    url = server.add("photos.zip", body)
    digest = hashlib.sha256(body).hexdigest()
    source, expected = {
        "wrong hash": (f"{url}#sha256={'0' * 64}", f"{url} has the sha256 {digest}, but params.yaml asks for 0000"),
        "missing page": (f"{url}.gone#sha256={digest}", f"could not download {url}.gone (Not Found)"),
        "refused connection": (
            f"http://127.0.0.1:{closed_port}/photos.zip#sha256={digest}",
            f"could not download http://127.0.0.1:{closed_port}/photos.zip (",
        ),
        "no archive": (f"{url}#sha256={digest}", "photos.zip is not a readable zip or tar archive ("),
    }[failure]
    edit(("evaluation.source", source))
    assert refusal(run).startswith(expected)


def test_crops_are_seeded_squares_of_one_size(tmp_path: Path, photo: Photos) -> None:
    photos = [Photo(photo(tmp_path / f"{i}.png", i), f"{i}.png") for i in range(3)]
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        stage.write_crops(photos, 5, seed, tmp_path / name)
        digests.append(files.tree_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]
    found = batches.files(tmp_path / "a")
    assert [path.name for path in found] == [f"crop_{i:05d}.png" for i in range(5)]
    assert {decode.decode(path).size for path in found} == {(stage.CROP_SIDE, stage.CROP_SIDE)}
    assert len({path.read_bytes() for path in found}) == 5


@pytest.fixture
def whole(checkout: Path, edit: Edit, photo: Photos) -> None:
    """Two classes of ten images, a third of one, for training and evaluation; five more for calibration."""
    names = ("cat", "dog", "rare")
    labels.write(Labels(names, ("",) * 3))
    for seed in range(21):
        photo(checkout / "whole" / names[seed // 10] / f"{seed}.png", seed)
    for seed in range(5):
        photo(checkout / f"tune/{seed}.png", 100 + seed)
    edit(
        ("model.name", "custom"), ("model.path", "trained"), ("custom.size", [8, 8]), ("split.source", "whole"),
        ("evaluation.source", "split"), ("calibration.source", "tune"), ("calibration.images", 4),
    )  # fmt: skip


def table_of(folder: Path) -> list[tuple[str, ...]]:
    lines = (folder / "labels.csv").read_text().splitlines()
    return [tuple(line.split(",")) for line in lines[1:]]


def test_one_source_is_split_into_what_trains_and_what_judges(whole: None, run: Run) -> None:
    run()
    exam, lessons = table_of(paths.EVALUATION), table_of(paths.TRAINING)
    assert len(exam) == 4 and len(lessons) == 17
    assert {name for name, *_ in exam} | {name for name, *_ in lessons} == {
        path.relative_to("whole").as_posix() for path in batches.files(Path("whole"))
    }
    assert sorted(label for _, label, _ in exam) == ["0", "0", "1", "1"]
    assert (paths.TRAINING / "labels.csv").read_text().startswith("file,label,group\n")
    assert (paths.EVALUATION / "labels.csv").read_text().startswith("file,label,sha256\n")
    for folder, rows in ((paths.EVALUATION, exam), (paths.TRAINING, lessons)):
        assert sorted(files.sizes(folder)) == sorted([row[0] for row in rows] + ["labels.csv"])
    record = files.read_json(paths.IMAGES)
    assert record["split"] == {"source": "whole", "evaluation": 0.2, "seed": 0, "images": 21, "near_duplicates": 0}
    assert (record["train"]["source"], record["train"]["images"], record["train"]["classes"]) == ("split", 17, 3)
    assert (record["evaluation"]["source"], record["evaluation"]["images"]) == ("split", 4)


def test_another_seed_and_share_split_otherwise(whole: None, run: Run, edit: Edit) -> None:
    found = []
    for seed, share in ((0, 0.2), (0, 0.2), (1, 0.2), (0, 0.5)):
        edit(("split.seed", seed), ("split.evaluation", share))
        run()
        found.append(table_of(paths.EVALUATION))
    assert found[0] == found[1] != found[2]
    assert [len(rows) for rows in found] == [4, 4, 4, 10]


def test_a_copy_is_on_the_same_side_and_has_the_number_of_its_original(whole: None, run: Run) -> None:
    for path in batches.files(Path("whole")):
        with Image.open(path) as image:
            image.resize((48, 32)).save(path.with_name(f"copy of {path.name}"))
    run()
    assert files.read_json(paths.IMAGES)["split"]["near_duplicates"] == 21
    exam = {name for name, *_ in table_of(paths.EVALUATION)}
    groups = {name: group for name, _, group in table_of(paths.TRAINING)}
    for path in batches.files(Path("whole")):
        original = path.relative_to("whole").as_posix().replace("copy of ", "")
        copy = original.replace("/", "/copy of ")
        assert (original in exam) == (copy in exam)
        assert groups.get(original) == groups.get(copy)
    assert len(set(groups.values())) == len(groups) / 2


def test_what_trains_also_calibrates_if_it_is_asked_to(whole: None, run: Run, edit: Edit) -> None:
    edit(("calibration.source", "split"), ("calibration.images", 6))
    run()
    tune = set(files.sizes(paths.CALIBRATION))
    assert len(tune) == 6
    assert tune <= {name for name, *_ in table_of(paths.TRAINING)}
    edit(("calibration.images", 18))
    assert refusal(run) == "calibration.images asks for 18, but split holds 17 images"


def test_training_images_may_be_a_source_of_their_own(whole: None, run: Run, edit: Edit, photo: Photos) -> None:
    for seed, name in enumerate(("cat/x.png", "dog/y.png")):
        photo(Path("exam") / name, 300 + seed)
    edit(("train.source", "whole"), ("evaluation.source", "exam"), ("split.source", None))
    run()
    assert len(table_of(paths.TRAINING)) == 21
    assert [name for name, *_ in table_of(paths.EVALUATION)] == ["cat/x.png", "dog/y.png"]
    record = files.read_json(paths.IMAGES)
    assert record["split"] is None
    assert record["train"]["source"] == "whole"
    shutil.copy("exam/cat/x.png", "whole/cat/same.png")
    lines = refusal(run).splitlines()
    assert lines[0].startswith(
        "photographs that are in the evaluation set and in the train set (1); point train.source"
    )
    assert lines[1] == "  exam/cat/x.png is whole/cat/same.png"


def test_a_model_that_is_not_trained_has_no_training_images(sets: None, run: Run) -> None:
    files.write_text(paths.TRAINING / "old.png", "of an earlier run")
    run()
    assert files.sizes(paths.TRAINING) == {"labels.csv": len("file,label,group\n")}
    record = files.read_json(paths.IMAGES)
    assert record["train"] is record["split"] is None


def test_a_model_that_is_trained_on_for_int8_has_training_images(
    whole: None, run: Run, edit: Edit, photo: Photos
) -> None:
    photo(Path("exam/cat/x.png"), 300)
    edit(("model.path", "own.keras"), ("evaluation.source", "exam"), ("train.source", "whole"))
    run()
    assert table_of(paths.TRAINING) == []
    edit(("variants", ["savedmodel-fp32", "tflite-int8-qat"]))
    run()
    assert len(table_of(paths.TRAINING)) == 21
    assert files.read_json(paths.IMAGES)["train"]["source"] == "whole"


@pytest.mark.parametrize("block", ["split", "train"])
def test_every_bad_image_of_what_is_searched_for_copies_is_reported(
    whole: None, run: Run, edit: Edit, photo: Photos, block: str
) -> None:
    if block == "train":
        photo(Path("exam/cat/x.png"), 300)
        edit(("train.source", "whole"), ("evaluation.source", "exam"), ("split.source", None))
    Path("whole/cat/page.png").write_text("<html>")
    Path("whole/rare/empty.png").touch()
    lines = refusal(run).splitlines()
    assert lines[0] == "bad images (2 of 23):"
    for line, name in zip(lines[1:], ("cat/page.png", "rare/empty.png"), strict=True):
        assert line.startswith(f"  whole/{name} cannot be read as an image (")


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_to_split_are_refused(
    checkout: Path, edit: Edit, photo: Photos, run: Run, whole: None, count: int
) -> None:
    for seed in range(count):
        photo(checkout / f"few/{'cat' if seed else 'dog'}/{seed}.png", seed)
    edit(("split.source", "few"))
    assert refusal(run) == (
        f"{count} images in {count} groups of near duplicates cannot be divided with 0.2 of them on one side: add "
        "other images, or name two sources"
    )
