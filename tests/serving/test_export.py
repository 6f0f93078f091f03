import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import text_format

from stages import __main__ as command
from stages import select, summarize
from stages.contracts import labels, paths
from stages.contracts.labels import Labels
from stages.contracts.variant import Variant
from stages.core import files
from stages.core.errors import PipelineError
from stages.model import onnx_export
from stages.params import document
from stages.runtimes import Manifest, onnxruntime, tflite, tftrt
from stages.runtimes.contract import Job, infer
from stages.serving import export

SHAPE, CLASSES = (4, 4, 3), 6
OPTIONS: dict[str, dict[str, Any]] = {
    "savedmodel": {"tf32": True},
    "tflite": {"xnnpack": True},
    "onnxruntime": {"calibrator": "minmax", "reduce_range": True},
    "tftrt": {"tf32": True, "dynamic_shapes": False},
    "tensorrt": {"pinned": True, "cuda_graph": True},
}
# One of each, with plans that nobody opens.
FORMS = {"tensorrt-fp16": "profile", "tensorrt-int8": "each"}
ENGINE = "assets/trt-serialized-engine.TRTEngineOp_000_000"
Choose = Callable[..., Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a real SavedModel, of TFLite and ONNX files, and of a SavedModel that looks like one of TF-TRT."""
    from stages.core.tensorflow import tensorflow

    tf = tensorflow()
    weights = tf.constant(np.random.default_rng(0).normal(0, 2, (3, CLASSES)).astype(np.float32))
    folder = tmp_path_factory.mktemp("built")

    def save(variant: str, output: str) -> None:
        @tf.function(input_signature=[tf.TensorSpec([None, *SHAPE], tf.float32, name="images")])
        def serve(images: Any) -> dict[str, Any]:
            return {output: tf.nn.softmax(tf.reduce_mean(images, [1, 2]) @ weights)}

        module = tf.Module()
        module.serve = serve
        tf.saved_model.save(module, str(folder / variant), signatures={"serving_default": serve})

    save("savedmodel-fp32", "probabilities")
    save("tftrt-fp16", "output_0")
    forget_output_shape(folder / "tftrt-fp16/saved_model.pb")
    files.write_text(folder / "tftrt-fp16" / ENGINE, "an engine")
    files.write_json(folder / "tftrt-fp16" / tftrt.BATCH_SIZES, [1, 8])
    ends = {"built_by": {}, "input": "images", "output": "probabilities"}
    for variant, engines in (
        ("tensorrt-fp16", [[1, "all.plan"], [8, "all.plan"]]),
        ("tensorrt-int8", [[1, "a.plan"], [8, "b.plan"]]),
    ):
        for _, file in engines:
            files.write_text(folder / variant / str(file), str(file))
        files.write_json(folder / variant / "engines.json", ends | {"form": FORMS[variant], "engines": engines})
    source = folder / "savedmodel-fp32"
    signature = tf.saved_model.load(str(source)).signatures["serving_default"]
    (folder / "model.onnx").write_bytes(onnx_export.export(signature).SerializeToString())
    for name, runtime in (("tflite", tflite), ("onnxruntime", onnxruntime)):
        for precision in ("fp32", "int8"):
            target = folder / f"{name}-{precision}"
            target.mkdir()
            runtime.convert(
                Job(source, folder / "model.onnx", target, precision, SHAPE, calibration, (1, 8), OPTIONS[name])
            )
    return folder


def forget_output_shape(path: Path) -> None:
    """As TF-TRT's converter does."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    shape = saved.meta_graphs[0].signature_def["serving_default"].outputs["output_0"].tensor_shape
    shape.Clear()
    shape.unknown_rank = True
    path.write_bytes(saved.SerializeToString())


def calibration(size: int) -> Iterator[npt.NDArray[np.float32]]:
    for seed in range(10):
        yield example(size, seed)


def example(size: int, seed: int = 99) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0, 1, (size, *SHAPE)).astype(np.float32)


@pytest.fixture
def choose(built: Path, results: Any, edit: Callable[..., None], machine: dict[str, Any]) -> Choose:
    """Finish a pipeline that chooses this variant: choose(variant, *changes of params.yaml); returns its folder."""
    names = tuple(f'a, "class" {i}' if i else "crème" for i in range(CLASSES))
    labels.write(Labels(names, tuple(f"n{i}" for i in range(CLASSES))))

    def finish(variant: str, *changes: tuple[str, Any]) -> Path:
        edit(("variants", [variant]), *changes)
        runtime, precision, qat = astuple(Variant.parse(variant))
        on_gpu = runtime in ("tftrt", "tensorrt")
        if on_gpu:
            files.write_json(paths.ENVIRONMENT, machine)
        digest = files.tree_digest(built / variant)
        shutil.copytree(built / variant, paths.model(variant), dirs_exist_ok=True)
        manifest = Manifest(variant, runtime, precision, qat, "ok", None, OPTIONS[runtime])._asdict()
        files.write_json(paths.model(variant) / paths.MANIFEST, manifest)
        results.ok(variant, [0, 0, 0, 1], 20.0)
        results.timed(variant, 20.0, on_gpu=on_gpu)
        details = {"tensorrt": "TensorRT 8.5.3.1", "form": FORMS[variant]} if runtime == "tensorrt" else {}
        results.converted(variant, model_sha256=digest, details=details)
        summary = summarize.summarise((variant,))
        files.write_json(paths.SUMMARY, summary)
        files.write_json(paths.SELECTION, select.select(summary, document.load()))
        return paths.model(variant)

    return finish


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_manifest(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name != paths.MANIFEST}


def triton_config(folder: Path = Path("export"), name: str = "tiny") -> Any:
    """config.pbtxt as Triton's own message reads it, which refuses a field that it does not have."""
    from tritonclient.grpc import model_config_pb2

    text = (folder / "triton" / name / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def serving_config(folder: Path = Path("export")) -> Any:
    from tensorflow_serving.config import model_server_config_pb2

    text = (folder / "tensorflow_serving/models.config").read_text(encoding="utf-8")
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def by_config(config: Any, version: Path, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the exported SavedModel answers, called by nothing but the names in Triton's configuration."""
    from stages.core.tensorflow import tensorflow

    tf = tensorflow()
    signature = tf.saved_model.load(str(version)).signatures["serving_default"]
    answer: npt.NDArray[np.float32] = signature(**{config.input[0].name: tf.constant(images)})[
        config.output[0].name
    ].numpy()
    return answer


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_triton_alone_gets_onnx_and_answers_as_measured(choose: Choose, precision: str) -> None:
    from tritonclient.grpc.model_config_pb2 import TYPE_FP32, ModelInstanceGroup

    model = without_manifest(choose(f"onnxruntime-{precision}"))
    told = export.write(Path("export"))
    assert told[1:] == [export.NO_SERVING]
    assert not Path("export/tensorflow_serving").exists()
    assert contents(Path("export/triton/tiny/1")) == model
    config = triton_config()
    assert (config.platform, config.max_batch_size) == ("onnxruntime_onnx", 8)
    (source,), (result,), (group,) = config.input, config.output, config.instance_group
    assert (source.name, source.data_type, list(source.dims)) == ("images", TYPE_FP32, list(SHAPE))
    assert (result.name, result.data_type, list(result.dims)) == ("probabilities", TYPE_FP32, [CLASSES])
    assert group.kind == ModelInstanceGroup.KIND_CPU
    assert files.read_json(Path("export/preprocessing.json"))["input"]["shape"] == [-1, *SHAPE]
    exported = onnxruntime.load(Path("export/triton/tiny/1"), precision, {}, 1)
    measured = Manifest.read(f"onnxruntime-{precision}").load(1)
    np.testing.assert_array_equal(infer(exported, example(3)), infer(measured, example(3)))


def test_a_champion_that_stayed_is_told(choose: Choose) -> None:
    choose("tflite-fp32")
    files.write_json(paths.REGISTER, {"outcome": "selected", "variant": "tflite-int8"})
    told = export.write(Path("export"))
    assert "MLflow's champion is still tflite-int8, which cannot be told from tflite-fp32." in told
    files.write_json(paths.REGISTER, {"outcome": "selected", "variant": "tflite-fp32"})
    assert not any("MLflow's champion" in sentence for sentence in export.write(Path("export")))


@pytest.mark.parametrize("variant", ["savedmodel-fp32", "tftrt-fp16"])
def test_both_servers_get_the_saved_model_as_it_was_measured(choose: Choose, variant: str) -> None:
    model = without_manifest(choose(variant))
    export.write(Path("export"))
    assert contents(Path("export/tensorflow_serving/tiny/1")) == model
    assert contents(Path("export/triton/tiny/1/model.savedmodel")) == model
    assert sorted(path.name for path in Path("export/triton/tiny").iterdir()) == ["1", "config.pbtxt", "labels.txt"]


@pytest.mark.parametrize("variant", ["savedmodel-fp32", "tflite-fp32", "tftrt-fp16"])
def test_tensorflow_serving_reads_its_configuration(choose: Choose, variant: str) -> None:
    choose(variant)
    export.write(Path("export"))
    (served,) = serving_config().model_config_list.config
    assert (served.name, served.base_path, served.model_platform) == ("tiny", "/models/tiny", "tensorflow")


def test_triton_reads_the_configuration_of_a_saved_model(choose: Choose) -> None:
    from tritonclient.grpc.model_config_pb2 import TYPE_FP32, ModelInstanceGroup

    choose("savedmodel-fp32")
    export.write(Path("export"))
    config = triton_config()
    assert (config.name, config.platform, config.max_batch_size) == ("tiny", "tensorflow_savedmodel", 8)
    (source,), (result,), (group,) = config.input, config.output, config.instance_group
    assert (source.name, source.data_type, list(source.dims)) == ("images", TYPE_FP32, list(SHAPE))
    assert (result.name, result.data_type, list(result.dims)) == ("probabilities", TYPE_FP32, [CLASSES])
    assert group.kind == ModelInstanceGroup.KIND_AUTO
    assert not config.HasField("dynamic_batching")
    names = Path("export/triton/tiny", result.label_filename).read_text(encoding="utf-8").splitlines()
    assert names == list(labels.read().names)


def test_triton_keeps_engines_on_the_gpu_and_fills_their_batches(choose: Choose) -> None:
    from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

    choose("tftrt-fp16")
    export.write(Path("export"))
    config = triton_config()
    assert (config.max_batch_size, list(config.dynamic_batching.preferred_batch_size)) == (8, [1, 8])
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    assert (config.output[0].name, list(config.output[0].dims)) == ("output_0", [CLASSES])
    assert f"1/model.savedmodel/{ENGINE}" in contents(Path("export/triton/tiny"))


def test_triton_takes_one_engine_for_all_sizes_as_a_plan(choose: Choose) -> None:
    from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

    choose("tensorrt-fp16")
    told = export.write(Path("export"))
    config = triton_config()
    assert (config.platform, config.max_batch_size, list(config.input[0].dims)) == ("tensorrt_plan", 8, list(SHAPE))
    assert config.instance_group[0].kind == ModelInstanceGroup.KIND_GPU
    assert contents(Path("export/triton/tiny"))["1/model.plan"] == b"all.plan"
    assert {path.name for path in Path("export").iterdir()} == {
        "README.txt", "export.json", "labels.txt", "preprocessing.json", "triton",
    }  # fmt: skip
    assert told[1:] == [export.NO_SERVING]


def test_triton_takes_engines_of_one_size_as_models_of_their_own(choose: Choose) -> None:
    choose("tensorrt-int8")
    export.write(Path("export"))
    for size, plan in ((1, b"a.plan"), (8, b"b.plan")):
        config = triton_config(name=f"tiny-batch{size}")
        assert (config.name, config.max_batch_size) == (f"tiny-batch{size}", 0)
        assert (list(config.input[0].dims), list(config.output[0].dims)) == ([size, *SHAPE], [size, CLASSES])
        assert contents(Path(f"export/triton/tiny-batch{size}"))["1/model.plan"] == plan
    told = " ".join(Path("export/README.txt").read_text(encoding="utf-8").split())
    assert (
        "They load in TensorRT 8.5.3.1 alone, on a NVIDIA T4 (compute capability 7.5), and take batches of 1, 8: "
        "models tiny-batchN, which take no other."
    ) in told
    assert export.TRITON_TENSORRT_IMAGE in told


@pytest.mark.parametrize("version", ["TensorRT 11.4.0.106", "TensorRT-RTX 1.7.1"])
def test_engines_of_another_tensorrt_name_no_image_that_lacks_it(choose: Choose, version: str) -> None:
    choose("tensorrt-fp16")
    summary = files.read_json(paths.SUMMARY)
    summary["rows"][0]["details"]["tensorrt"] = version
    files.write_json(paths.SUMMARY, summary)
    if "RTX" in version:
        with pytest.raises(
            PipelineError, match=r"tensorrt-fp16 was built by TensorRT-RTX 1\.7\.1, which no server takes"
        ):
            export.write(Path("export"))
        return
    export.write(Path("export"))
    told = Path("export/README.txt").read_text(encoding="utf-8")
    assert "tritonserver:YY.MM-py3" in told
    assert export.TRITON_TENSORRT_IMAGE not in told


def test_triton_forms_no_batches_for_engines_with_dynamic_shapes(choose: Choose) -> None:
    manifest = choose("tftrt-fp16") / paths.MANIFEST
    files.write_json(manifest, files.read_json(manifest) | {"options": {"tf32": True, "dynamic_shapes": True}})
    export.write(Path("export"))
    assert not triton_config().HasField("dynamic_batching")
    assert triton_config().max_batch_size == 8


@pytest.mark.parametrize("variant", ["savedmodel-fp32", "tftrt-fp16"])
def test_an_exported_saved_model_answers_as_the_variant_does(choose: Choose, variant: str) -> None:
    from stages.runtimes import savedmodel

    images = example(3)
    measured = infer(savedmodel.load(choose(variant), "", OPTIONS["savedmodel"], None), images)
    export.write(Path("export"))
    for version in ("triton/tiny/1/model.savedmodel", "tensorflow_serving/tiny/1"):
        np.testing.assert_array_equal(by_config(triton_config(), Path("export", version), images), measured)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_exported_tflite_file_answers_by_what_preprocessing_json_tells(choose: Choose, precision: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    choose(f"tflite-{precision}")
    images = example(1)
    measured = infer(Manifest.read(f"tflite-{precision}").load(1), images)
    export.write(Path("export"))
    told = files.read_json(Path("export/preprocessing.json"))
    source, result = told["input"], told["output"]
    assert (source["shape"], source["type"]) == ([-1, *SHAPE], "int8" if precision == "int8" else "float32")
    if precision == "int8":
        images = np.clip(np.round(images / source["scale"]) + source["zero_point"], -128, 127).astype(np.int8)
    interpreter = Interpreter("export/tensorflow_serving/tiny/1/model.tflite")
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (taken["name"], given["name"]) == (source["name"], result["name"])
    interpreter.set_tensor(taken["index"], images)
    interpreter.invoke()
    answer = interpreter.get_tensor(given["index"]).astype(np.float32)
    if precision == "int8":
        answer = (answer - result["zero_point"]) * result["scale"]
    np.testing.assert_allclose(answer, measured, atol=1e-6)


def test_tflite_is_for_tensorflow_serving_alone_and_says_so(choose: Choose) -> None:
    choose("tflite-int8")
    told = export.write(Path("export"))
    assert told[-1] == "Triton has no official backend for TFLite, so this export is for TensorFlow Serving alone."
    assert sorted(path.name for path in Path("export/tensorflow_serving/tiny/1").iterdir()) == ["model.tflite"]
    assert not Path("export/triton").exists()
    text = Path("export/README.txt").read_text(encoding="utf-8")
    assert told[-1] in text
    assert "--prefer_tflite_model" in text
    assert "Both tensors are int8: send round(x / scale)" in text


def test_the_readme_says_what_goes_in_how_to_serve_and_why_this_variant(choose: Choose) -> None:
    choose("savedmodel-fp32")
    (told,) = export.write(Path("export"))
    assert told.startswith("savedmodel-fp32 of tiny is in ")
    text = Path("export/README.txt").read_text(encoding="utf-8")
    assert files.read_json(paths.SELECTION)["sentence"] in text
    assert "top-1 75.0%, p50 20 ms at batch 1, 160 ms at batch 8 (a CPU, 2 threads); 2.0 MB." in text
    assert "in float32" in text and "uint8" in text
    assert '-v "$PWD/tensorflow_serving:/models:ro" tensorflow/serving:2.14.1 \\' in text
    assert "tritonserver --model-repository=/models" in text
    assert "--gpus" not in text and "None" not in text
    told_preprocessing = files.read_json(Path("export/preprocessing.json"))
    assert told_preprocessing.items() >= files.read_json(paths.MODEL)["preprocessing"].items()


def test_the_readme_of_engines_names_their_gpu_and_tensorrt(choose: Choose) -> None:
    choose("tftrt-fp16")
    export.write(Path("export"))
    text = Path("export/README.txt").read_text(encoding="utf-8")
    assert (
        "load in TensorRT 8.5.3 alone, on a GPU of compute capability 7.5, and were built\nfor batches of 1, 8:" in text
    )
    assert "libnvinfer8=8.5.3-1+cuda11.8" in text
    assert text.count("--gpus all") == 2
    assert text.count("-e TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION=False") == 2
    assert "(NVIDIA T4)" in text


@pytest.mark.parametrize("variant", ["tflite-int8", "tftrt-fp16", "savedmodel-fp32"])
def test_the_commands_in_the_readme_are_shell(choose: Choose, variant: str) -> None:
    choose(variant)
    export.write(Path("export"))
    lines = Path("export/README.txt").read_text(encoding="utf-8").splitlines()
    commands = "\n".join(line[2:] for line in lines if line.startswith("  "))
    assert commands.count("docker run") == (1 if variant == "tflite-int8" else 2)
    subprocess.run(["bash", "-n"], input=commands, text=True, check=True)


def test_a_second_export_replaces_the_first(choose: Choose) -> None:
    choose("savedmodel-fp32")
    export.write(Path("export"))
    choose("tflite-fp32")
    export.write(Path("export"))
    assert not Path("export/triton").exists()
    assert "tflite-fp32" in Path("export/README.txt").read_text(encoding="utf-8")
    assert files.read_json(Path("export/export.json"))["variant"] == "tflite-fp32"


def test_an_empty_folder_and_a_link_to_one_may_be_filled(choose: Choose, tmp_path: Path) -> None:
    choose("tflite-fp32")
    (tmp_path / "volume").mkdir()
    Path("export").symlink_to(tmp_path / "volume")
    export.write(Path("export"))
    assert Path("export").is_symlink()
    assert (tmp_path / "volume/README.txt").exists()


def foreign(target: Path) -> None:
    files.write_text(target / "thesis.txt", "years of work")


def foreign_record(target: Path) -> None:
    files.write_json(target / "export.json", ["another program's"])


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
    make(Path("export"))
    before = contents(Path())
    with pytest.raises(PipelineError, match=r"export is not an export, or was changed since .*: move it away, or name"):
        export.write(Path("export"))
    assert contents(Path()) == before


def test_no_results_are_refused(checkout: Path) -> None:
    with pytest.raises(PipelineError, match=r"selection.json is missing: run `make repro`, which writes it"):
        export.write(Path("export"))


@pytest.mark.parametrize(
    ("change", "outcome"),
    [(("budget.max_size_bytes", 1), "nothing within budget"), (("budget.max_p99_ms", 50.0), "cannot tell")],
)
def test_no_choice_and_a_doubtful_one_are_refused(choose: Choose, change: tuple[str, Any], outcome: str) -> None:
    choose("savedmodel-fp32", change)
    with pytest.raises(PipelineError, match=rf"there is no choice to export \({outcome}\): `make check` has"):
        export.write(Path("export"))
    assert not Path("export").exists()


def test_a_model_that_is_not_the_measured_one_is_refused(choose: Choose) -> None:
    files.write_text(choose("savedmodel-fp32") / "saved_model.pb", "another")
    with pytest.raises(PipelineError, match=r"models/savedmodel-fp32 is not what was measured: run `make repro`"):
        export.write(Path("export"))
    assert not Path("export").exists()


def test_a_model_that_was_removed_is_refused(choose: Choose) -> None:
    shutil.rmtree(choose("savedmodel-fp32"))
    with pytest.raises(PipelineError, match=r"models/savedmodel-fp32/variant.json is missing: run `make repro`"):
        export.write(Path("export"))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["ctrl-c", "full"])
def test_an_interruption_leaves_the_earlier_export_and_no_half(
    choose: Choose, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    choose("savedmodel-fp32")
    export.write(Path("export"))
    before = contents(Path())

    def stop(*_: Any) -> str:
        raise error

    monkeypatch.setattr(export, "readme", stop)
    with pytest.raises((KeyboardInterrupt, PipelineError)):
        export.write(Path("export"))
    assert contents(Path()) == before
    with pytest.raises((KeyboardInterrupt, PipelineError)):
        export.write(Path("elsewhere"))
    assert contents(Path()) == before and not Path("elsewhere").exists()


def test_a_full_disk_is_a_sentence(choose: Choose, tiny_disk: Path) -> None:
    model = choose("savedmodel-fp32")
    files.write_text(model / "assets/large", "x" * 200_000)
    with pytest.raises(
        PipelineError, match=r"the export could not be written to .*/disk/export \(No space left on device\): make room"
    ):
        export.write(tiny_disk / "export")
    assert list(tiny_disk.iterdir()) == []


def test_a_read_only_disk_is_a_sentence(choose: Choose, tiny_disk: Path) -> None:
    choose("savedmodel-fp32")
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(PipelineError, match=r"could not be written to .*/disk/export \(Read-only file system\): make"):
        export.write(tiny_disk / "export")


def test_a_file_where_a_folder_should_be_is_a_sentence(choose: Choose) -> None:
    choose("savedmodel-fp32")
    Path("file").write_text("mine")
    with pytest.raises(PipelineError, match=r"could not be written to .*/file/export \(.*\): make room there, or name"):
        export.write(Path("file/export"))
    assert Path("file").read_text() == "mine"


def test_the_command_exports_and_tells_where(
    choose: Choose, command_line: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    choose("tflite-fp32")
    command_line("export", "--to", "out/my export")
    command.main()
    assert Path("out/my export/README.txt").exists()
    assert capsys.readouterr().out.splitlines() == [
        f"tflite-fp32 of tiny is in {Path('out/my export').resolve()}; its README.txt says how to serve it.",
        export.NO_TRITON,
    ]


def test_the_command_refuses_a_choice_of_other_parameters(
    choose: Choose, edit: Callable[..., None], command_line: Callable[..., None]
) -> None:
    choose("tflite-fp32")
    edit(("select.objective", "size"))
    command_line("export", "--to", "export")
    with pytest.raises(PipelineError, match=r"params.yaml has changed since"):
        command.main()
    assert not Path("export").exists()
