import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contracts import codec
from stages.contracts.conversion import MANIFEST
from stages.contracts.model import MODEL, ModelRecord
from stages.contracts.row import SUMMARY, Summary
from stages.contracts.selection import SELECTION, Selection
from stages.core import files
from stages.core.errors import PipelineError
from stages.runtimes import registry
from stages.serving import export, readme, tf_serving, triton
from stages.serving.export import ExportRecord
from tests.fixtures.variants import FORMS, REAL, SHAPE, with_fact

Choose = Callable[..., Path]
EXPORT = Path("export")

pytestmark = pytest.mark.usefixtures("in_process")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def error(target: Path = EXPORT) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        export.write(target)
    return caught.value


def readme_words() -> str:
    return " ".join((EXPORT / "README.txt").read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", ["savedmodel-fp32", "tftrt-fp16"])
def test_both_servers_get_the_saved_model_as_it_was_measured(choose: Choose, name: str) -> None:
    model = contents(choose(name))
    del model[MANIFEST]
    export.write(EXPORT)
    assert contents(EXPORT / "tensorflow_serving/tiny/1") == model
    assert contents(EXPORT / "triton/tiny/1/model.savedmodel") == model
    assert {path.name for path in EXPORT.iterdir()} == {
        "README.txt", "export.json", "labels.txt", "preprocessing.json", "tensorflow_serving", "triton",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "folder", "limit"),
    [
        ("tflite-int8", tf_serving.FOLDER, triton.ONLY_TENSORFLOW_SERVING),
        ("onnxruntime-fp32", triton.FOLDER, tf_serving.ONLY_TRITON),
        ("tensorrt-fp16", triton.FOLDER, tf_serving.ONLY_TRITON),
    ],
)
def test_a_server_that_takes_no_such_files_gets_no_folder(choose: Choose, name: str, folder: str, limit: str) -> None:
    choose(name)
    assert export.write(EXPORT)[1:] == [limit]
    folders = {path.name for path in EXPORT.iterdir() if path.is_dir()}
    assert folders == {folder}
    assert limit in readme_words()


@pytest.mark.parametrize("name", [*REAL, "tftrt-fp16", *FORMS])
def test_the_record_names_every_file(choose: Choose, name: str) -> None:
    choose(name)
    export.write(EXPORT)
    record = codec.read(ExportRecord, EXPORT / export.RECORD)
    assert (record.model, record.variant) == ("tiny", name)
    assert record.sentence == codec.read(Selection, SELECTION).sentence
    assert record.files.keys() == contents(EXPORT).keys() - {export.RECORD}


@pytest.mark.parametrize("name", ["savedmodel-fp32", "tflite-int8"])
def test_preprocessing_json_says_how_an_image_becomes_input(choose: Choose, name: str) -> None:
    choose(name)
    export.write(EXPORT)
    written = files.read_json(EXPORT / "preprocessing.json")
    record = codec.read(ModelRecord, MODEL)
    assert (written["height"], written["resize"]) == (record.preprocessing.height, record.preprocessing.resize)
    assert (written["scale"], written["channels"]) == ([*record.preprocessing.scale], "rgb")
    source = written["input"]
    assert source["shape"] == [-1, *SHAPE]
    assert source["type"] == ("int8" if "int8" in name else "float32")
    assert ("scale" in source, "zero_point" in source) == ("int8" in name, "int8" in name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "is taken turned as its EXIF tag says; the centre in the proportions of"),
        ({}, "(bicubic with antialiasing, by Pillow)"),
        ({"orientation": False, "resize": "stretch", "method": "nearest"}, "as it is stored, whatever its EXIF tag"),
        ({"library": "opencv", "method": "nearest"}, "(nearest, by OpenCV)"),
        ({"library": "tensorflow", "antialias": False}, "(bicubic without antialiasing, by tf.image, which does not"),
        ({"resize": "resize-crop", "resize_side": 9}, "its shorter side has 9 pixels, and its centre cut out"),
    ],
)
def test_the_readme_says_how_an_image_is_resized(choose: Choose, changes: dict[str, Any], words: str) -> None:
    choose("savedmodel-fp32")
    found = codec.read(Summary, SUMMARY)
    model = replace(found.model, preprocessing=replace(found.model.preprocessing, **changes))
    codec.write(replace(found, model=model), SUMMARY)
    export.write(EXPORT)
    assert words in readme_words()
    written = files.read_json(EXPORT / "preprocessing.json")
    assert changes.items() <= written.items()


@pytest.mark.parametrize("runtime", ["savedmodel", "tflite"])
def test_a_model_is_described_by_its_runtimes_own_process(
    choose: Choose, built: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    here = registry.module(runtime, "serve").describe(built / f"{runtime}-fp32")
    monkeypatch.undo()
    assert export.describe(runtime, built / f"{runtime}-fp32") == here


@pytest.mark.parametrize("champion", [None, "tflite-fp32", "tflite-int8"])
def test_a_champion_that_stayed_is_named(choose: Choose, champion: str | None) -> None:
    choose("tflite-fp32")
    sentences = [sentence for sentence in export.write(EXPORT, champion) if "MLflow" in sentence]
    assert [("tflite-int8" in sentence, "tflite-fp32" in sentence) for sentence in sentences] == (
        [(True, True)] if champion == "tflite-int8" else []
    )


def test_the_readme_has_the_figures_and_the_commands(choose: Choose) -> None:
    choose("savedmodel-fp32")
    (message,) = export.write(EXPORT)
    assert str(EXPORT.resolve()) in message
    text = readme_words()
    assert codec.read(Selection, SELECTION).sentence in text
    for figure in ("75.0%", "p50 20 ms at batch 1, 160 ms at batch 8", "a CPU, 2 threads"):
        assert figure in text
    assert tf_serving.IMAGE in text and triton.IMAGE in text
    assert "--gpus" not in text and "None" not in text


def test_the_readme_of_int8_tells_scale_and_zero_point(choose: Choose) -> None:
    choose("tflite-int8")
    export.write(EXPORT)
    source = files.read_json(EXPORT / "preprocessing.json")["input"]
    assert f"{source['scale']:.9g}" in readme_words()
    assert f"zero point {source['zero_point']}" in readme_words()


@pytest.mark.parametrize("name", ["tftrt-fp16", "tensorrt-fp16", "tensorrt-int8"])
def test_the_readme_of_engines_names_their_gpu_and_tensorrt(choose: Choose, name: str) -> None:
    choose(name)
    export.write(EXPORT)
    text = readme_words()
    for known in ("TensorRT 8.5.3", "compute capability 7.5", "batches of 1, 8", "NVIDIA T4", "--gpus all"):
        assert known in text
    assert ("tiny-batchN" in text) == (name == "tensorrt-int8")


@pytest.mark.parametrize("name", [*REAL, "tftrt-fp16", *FORMS])
def test_the_commands_in_the_readme_are_shell(choose: Choose, name: str) -> None:
    choose(name)
    export.write(EXPORT)
    lines = (EXPORT / "README.txt").read_text(encoding="utf-8").splitlines()
    commands = "\n".join(line[2:] for line in lines if line.startswith("  "))
    servers = registry.description(name.partition("-")[0]).servers
    assert commands.count("docker run") == servers.tensorflow_serving + (servers.triton is not None)
    subprocess.run(["bash", "-n"], input=commands, text=True, check=True)


def test_a_second_export_replaces_the_first(choose: Choose) -> None:
    choose("savedmodel-fp32")
    export.write(EXPORT)
    choose("tflite-fp32")
    export.write(EXPORT)
    assert not (EXPORT / "triton").exists()
    assert codec.read(ExportRecord, EXPORT / export.RECORD).variant == "tflite-fp32"


def test_an_empty_folder_and_a_link_to_one_may_be_filled(choose: Choose, tmp_path: Path) -> None:
    choose("tflite-fp32")
    (tmp_path / "volume").mkdir()
    EXPORT.symlink_to(tmp_path / "volume")
    export.write(EXPORT)
    assert EXPORT.is_symlink()
    assert (tmp_path / "volume/README.txt").exists()


def foreign(target: Path) -> None:
    files.write_text(target / "thesis.txt", "years of work")


def foreign_record(target: Path) -> None:
    files.write_json(target / export.RECORD, ["another program's"])


def own_with_more(target: Path) -> None:
    export.write(target)
    files.write_text(target / "triton/other/config.pbtxt", "mine")


def own_with_changes(target: Path) -> None:
    export.write(target)
    with (target / "triton/tiny/config.pbtxt").open("a") as file:
        file.write("# tuned\n")


def a_file(target: Path) -> None:
    target.write_text("mine")


@pytest.mark.parametrize("make", [foreign, foreign_record, own_with_more, own_with_changes, a_file])
def test_what_is_not_an_untouched_export_is_never_overwritten(choose: Choose, make: Callable[[Path], None]) -> None:
    choose("savedmodel-fp32")
    make(EXPORT)
    before = contents(Path())
    caught = error()
    assert (caught.code, caught.values["file"]) == ("no-export", str(EXPORT.resolve()))
    assert contents(Path()) == before


def test_no_results_are_refused(checkout: Path) -> None:
    caught = error()
    assert (caught.code, caught.values["file"]) == ("record-missing", str(SELECTION))


@pytest.mark.parametrize(
    ("change", "outcome"),
    [(("budget.max_size_bytes", 1), "nothing within budget"), (("budget.max_p99_ms", 50.0), "cannot tell")],
)
def test_no_choice_and_a_doubtful_one_are_refused(choose: Choose, change: tuple[str, Any], outcome: str) -> None:
    choose("savedmodel-fp32", change)
    caught = error()
    assert (caught.code, caught.values["outcome"]) == ("no-choice", outcome)
    assert not EXPORT.exists()


def test_engines_that_no_server_takes_are_refused(choose: Choose, summarize: Callable[[], None]) -> None:
    choose("tensorrt-fp16")
    with_fact("tensorrt-fp16", "tensorrt", "TensorRT-RTX 1.7.1")
    summarize()
    caught = error()
    assert (caught.code, caught.values["tensorrt"]) == ("no-server", "TensorRT-RTX 1.7.1")


def test_a_model_that_is_not_the_measured_one_is_refused(choose: Choose) -> None:
    model = choose("savedmodel-fp32")
    files.write_text(model / "saved_model.pb", "another")
    caught = error()
    assert (caught.code, caught.values["file"]) == ("not-measured", str(model))
    assert not EXPORT.exists()


def test_a_model_that_was_removed_is_refused(choose: Choose) -> None:
    model = choose("savedmodel-fp32")
    shutil.rmtree(model)
    caught = error()
    assert (caught.code, caught.values["file"]) == ("record-missing", str(model / MANIFEST))


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["ctrl-c", "full"])
def test_an_interruption_leaves_the_earlier_export_and_no_half(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    choose("savedmodel-fp32")
    export.write(EXPORT)
    before = contents(Path())

    def interrupted(*_: Any) -> str:
        raise stop

    monkeypatch.setattr(readme, "text", interrupted)
    with pytest.raises((KeyboardInterrupt, PipelineError)):
        export.write(EXPORT)
    assert contents(Path()) == before
    with pytest.raises((KeyboardInterrupt, PipelineError)):
        export.write(Path("elsewhere"))
    assert contents(Path()) == before and not Path("elsewhere").exists()


def not_written(target: Path) -> None:
    caught = error(target)
    assert (caught.code, caught.values["file"]) == ("export-not-written", str(target.resolve()))


def test_a_full_disk_is_a_sentence(choose: Choose, tiny_disk: Path, summarize: Callable[[], None]) -> None:
    files.write_text(choose("savedmodel-fp32") / "assets/large", "x" * 200_000)
    not_written(tiny_disk / "export")
    assert list(tiny_disk.iterdir()) == []


def test_a_read_only_disk_is_a_sentence(choose: Choose, tiny_disk: Path) -> None:
    choose("savedmodel-fp32")
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    not_written(tiny_disk / "export")


def test_a_file_where_a_folder_should_be_is_a_sentence(choose: Choose) -> None:
    choose("savedmodel-fp32")
    Path("file").write_text("mine")
    not_written(Path("file/export"))
    assert Path("file").read_text() == "mine"


def test_tensors_that_are_not_recorded_are_left_out(choose: Choose) -> None:
    choose("tensorrt-fp16")
    export.write(EXPORT)
    written = files.read_json(EXPORT / "preprocessing.json")
    assert written["output"] == {"name": "probabilities", "type": "float32"}
    assert np.prod(written["input"]["shape"][1:]) == np.prod(SHAPE)
