"""The chosen variant as folders that TensorFlow Serving and Triton load, with the words that go with them."""

import json
import shutil
import tempfile
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.contracts import labels, paths
from stages.core import files
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.runtimes import Manifest, onnxruntime, tensorrt_session, tflite, tftrt

Record = dict[str, Any]

# Inside an export: what was exported, and which files belong to it.
RECORD = "export.json"
NO_TRITON = "Triton has no official backend for TFLite, so this export is for TensorFlow Serving alone."
NO_SERVING = "TensorFlow Serving takes SavedModels and TFLite alone, so this export is for Triton."
# TensorFlow Serving of the TensorFlow that converted, and Triton with that TensorFlow (24.01) or, since an engine loads
# in no other version of TensorRT, with the TensorRT of the extra `gpu` (23.03).
SERVING_IMAGE = "tensorflow/serving:2.14.1"
TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:24.01-py3"
TRITON_TENSORRT_IMAGE = "nvcr.io/nvidia/tritonserver:23.03-py3"
TRITON_OTHER_IMAGE = "nvcr.io/nvidia/tritonserver:YY.MM-py3"
# Where Triton runs what was measured on that device alone.
KINDS = {True: "KIND_GPU", False: "KIND_CPU"}
# What Triton calls the runtimes; the others are SavedModels.
PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}


@dataclass(frozen=True)
class Choice:
    """The chosen variant, and what the stages recorded of it."""

    sentence: str
    manifest: Manifest
    row: Record
    model: Record
    machine: Record

    @property
    def name(self) -> str:
        """What the servers call the model."""
        return str(self.model["name"])

    @property
    def runtime(self) -> str:
        """Which of the runtimes made it."""
        return self.manifest.runtime

    @property
    def on_gpu(self) -> bool:
        """Whether it was measured on a GPU."""
        return bool(self.row["on_gpu"])

    @property
    def for_serving(self) -> bool:
        """Whether TensorFlow Serving takes it."""
        return self.runtime not in PLATFORMS

    @property
    def for_triton(self) -> bool:
        """Whether one of Triton's official backends takes it."""
        return self.runtime != "tflite" and "RTX" not in str(self.row["details"].get("tensorrt"))


def choice() -> Choice:
    """Read the records; PipelineError if no variant was chosen beyond doubt."""
    chosen = files.read_json(paths.SELECTION)
    if chosen["outcome"] != "selected":
        raise PipelineError(
            f"there is no choice to export ({chosen['outcome']}): `make check` has the reasons; change `budget` in "
            f"{paths.PARAMS} or bring more images, and run `make repro`"
        )
    summary = files.read_json(paths.SUMMARY)
    row = next(row for row in summary["rows"] if row["variant"] == chosen["winner"])
    manifest = Manifest.read(chosen["winner"])
    found = Choice(chosen["sentence"], manifest, row, files.read_json(paths.MODEL), files.read_json(paths.ENVIRONMENT))
    if not found.for_serving and not found.for_triton:
        raise PipelineError(
            f"{manifest.variant} was built by {row['details']['tensorrt']}, which no server takes: build it with "
            "TensorRT (`make repro` or `make repro TENSORRT=11`) to serve it"
        )
    return found


def write(target: Path) -> list[str]:
    """Export the chosen variant into the folder `target`; returns what to tell the user."""
    chosen, target = choice(), target.resolve()
    _refuse_foreign(target)
    try:
        with files.new_directory(target) as folder:
            _fill(folder, chosen)
    except OSError as error:
        raise PipelineError(
            f"the export could not be written to {target} ({error.strerror or error}): make room there, or name a "
            "folder that can be written with TO=FOLDER"
        ) from None
    limits = [text for text, fits in ((NO_TRITON, chosen.for_triton), (NO_SERVING, chosen.for_serving)) if not fits]
    told = f"{chosen.manifest.variant} of {chosen.name} is in {target}; its README.txt says how to serve it."
    return [told, *_other_champion(chosen.manifest.variant), *limits]


def _other_champion(variant: str) -> list[str]:
    """The registry keeps a champion that the measurements cannot tell from the choice."""
    champion = files.read_json(paths.REGISTER).get("variant", variant) if paths.REGISTER.exists() else variant
    return (
        [] if champion == variant else [f"MLflow's champion is still {champion}, which cannot be told from {variant}."]
    )


def _refuse_foreign(target: Path) -> None:
    """PipelineError unless there is nothing, an empty folder, or an export that nobody has changed."""
    if not target.exists() or _is_export(target) or (target.is_dir() and not any(target.iterdir())):
        return
    raise PipelineError(
        f"{target} is not an export, or was changed since it was written: move it away, or name another folder with "
        "TO=FOLDER"
    )


def _is_export(target: Path) -> bool:
    with suppress(PipelineError, OSError, LookupError, TypeError):
        return bool(files.read_json(target / RECORD)["files"] == _contents(target))
    return False


def _contents(folder: Path) -> dict[str, int]:
    return {name: size for name, size in files.sizes(folder).items() if name != RECORD}


def _fill(folder: Path, chosen: Choice) -> None:
    """Everything in an export; its record comes last."""
    names = "".join(f"{name}\n" for name in labels.read().names)
    files.write_text(folder / "labels.txt", names)
    interface, sizes = (_fill_plans if chosen.runtime == "tensorrt" else _fill_model)(folder, chosen, names)
    files.write_json(folder / "preprocessing.json", chosen.model["preprocessing"] | interface)
    files.write_text(folder / "README.txt", readme(chosen, interface, sizes))
    record = {"model": chosen.name, "variant": chosen.manifest.variant, "sentence": chosen.sentence}
    files.write_json(folder / RECORD, record | {"files": _contents(folder)})


def _fill_plans(folder: Path, chosen: Choice, names: str) -> tuple[Record, list[int]]:
    """A model of Triton's for each engine: one of a single batch size takes no other."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        _copy_model(chosen.manifest.variant, Path(place))
        built = files.read_json(Path(place) / tensorrt_session.RECORD)
        shape = [-1, *chosen.model["input_shape"]]
        source = {"name": built["input"], "type": "float32", "shape": shape}
        interface = {"input": source, "output": {"name": built["output"], "type": "float32"}}
        # Of an engine for several sizes, the last is the largest.
        for file, size in {file: size for size, file in built["engines"]}.items():
            fixed = size if built["form"] == "each" else None
            name = f"{chosen.name}-batch{size}" if fixed else chosen.name
            repository = folder / "triton" / name
            (repository / "1").mkdir(parents=True)
            (Path(place) / file).rename(repository / "1" / "model.plan")
            files.write_text(repository / "labels.txt", names)
            files.write_text(repository / "config.pbtxt", triton_config(name, chosen, interface, [size], fixed))
    return interface, [size for size, _ in built["engines"]]


def _fill_model(folder: Path, chosen: Choice, names: str) -> tuple[Record, list[int]]:
    """One model for both servers, or for the one that takes it; its interface and batch sizes."""
    serving, repository = folder / "tensorflow_serving", folder / "triton" / chosen.name
    version = (serving / chosen.name if chosen.for_serving else repository) / "1"
    _copy_model(chosen.manifest.variant, version)
    interface = INTERFACES.get(chosen.runtime, _saved_model_interface)(version)
    if chosen.for_serving:
        files.write_text(serving / "models.config", models_config(chosen.name))
    sizes = _batch_sizes(version, chosen)
    if chosen.for_triton:
        if chosen.for_serving:
            _copy(version, repository / "1" / "model.savedmodel")
        files.write_text(repository / "labels.txt", names)
        files.write_text(repository / "config.pbtxt", triton_config(chosen.name, chosen, interface, sizes))
    return interface, sizes


def _copy_model(variant: str, target: Path) -> None:
    """Copy the variant's files; PipelineError if they are not those that were measured."""
    _copy(paths.model(variant), target)
    if files.tree_digest(target) != files.read_json(paths.record(variant, "convert.json"))["model_sha256"]:
        raise PipelineError(
            f"{paths.model(variant)} is not what was measured: run `make repro`, which converts it anew"
        )


def _copy(source: Path, target: Path) -> None:
    # shutil.copytree would turn a full disk into a list of all files, and copy the cache's write protection.
    for name in files.sizes(source).keys() - {paths.MANIFEST}:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)


def _saved_model_interface(folder: Path) -> Record:
    """The only input and output of the serving signature, read without loading the model: engines would need a GPU."""
    tf = tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signature = saved.meta_graphs[0].signature_def["serving_default"]
    ((source, taken),) = signature.inputs.items()
    ((result, given),) = signature.outputs.items()
    shape = [dim.size for dim in taken.tensor_shape.dim]
    return {
        "input": {"name": source, "type": tf.as_dtype(taken.dtype).name, "shape": shape},
        "output": {"name": result, "type": tf.as_dtype(given.dtype).name},
    }


def _tflite_interface(folder: Path) -> Record:
    """The file's only input and output, by the names of their tensors, as TensorFlow Serving calls them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(folder / tflite.FILE))
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = {"shape": source["shape_signature"].tolist()}
    return {"input": _tflite_tensor(source) | shape, "output": _tflite_tensor(result)}


def _tflite_tensor(details: Record) -> Record:
    tensor = {"name": details["name"], "type": details["dtype"].__name__}
    scale, zero_point = details["quantization"]
    return tensor | ({"scale": scale, "zero_point": zero_point} if scale else {})


def _onnx_interface(folder: Path) -> Record:
    """The graph's only input and output; -1 where its size is open, as in a SavedModel."""
    import onnx

    graph = onnx.load(folder / onnxruntime.FILE).graph
    ((source,), (result,)) = graph.input, graph.output
    shape = [dim.dim_value or -1 for dim in source.type.tensor_type.shape.dim]
    return {"input": _onnx_tensor(source) | {"shape": shape}, "output": _onnx_tensor(result)}


def _onnx_tensor(value: Any) -> Record:
    import onnx

    return {"name": value.name, "type": onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name}


INTERFACES = {"tflite": _tflite_interface, "onnxruntime": _onnx_interface}


def _batch_sizes(folder: Path, chosen: Choice) -> list[int]:
    """Sizes that there are engines for, or else that were measured."""
    if chosen.runtime == "tftrt":
        return [int(size) for size in files.read_json(folder / tftrt.BATCH_SIZES)]
    return sorted(int(size) for size in chosen.row["latency"])


def models_config(name: str) -> str:
    """A text proto of tensorflow.serving.ModelServerConfig."""
    return f"""\
model_config_list {{
  config {{
    name: {json.dumps(name)}
    base_path: {json.dumps(f"/models/{name}")}
    model_platform: "tensorflow"
  }}
}}
"""


def triton_config(name: str, chosen: Choice, interface: Record, sizes: list[int], fixed: int | None = None) -> str:
    """A text proto of inference.ModelConfig; its dims leave out the batch, unless that has one fixed size."""
    source, result = interface["input"], interface["output"]
    # Elsewhere requests stay as they come: engines with dynamic shapes may serve no sizes but those of their profiles.
    static = chosen.runtime == "tftrt" and not chosen.manifest.options["dynamic_shapes"]
    batching = f"dynamic_batching {{ preferred_batch_size: {sizes} }}\n" if static else ""
    # TF-TRT forgets the shape of its output, so that comes from the model's record.
    return f"""\
name: {json.dumps(name)}
platform: "{PLATFORMS.get(chosen.runtime, "tensorflow_savedmodel")}"
max_batch_size: {0 if fixed else max(sizes)}
input {{
  name: {json.dumps(source["name"])}
  data_type: TYPE_FP32
  dims: {[fixed] * bool(fixed) + source["shape"][1:]}
}}
output {{
  name: {json.dumps(result["name"])}
  data_type: TYPE_FP32
  dims: {[fixed] * bool(fixed) + [chosen.model["classes"]]}
  label_filename: "labels.txt"
}}
instance_group {{ kind: {"KIND_AUTO" if chosen.runtime == "savedmodel" else KINDS[chosen.on_gpu]} }}
{batching}"""


def readme(chosen: Choice, interface: Record, sizes: list[int]) -> str:
    """What a person who has nothing but the export must know."""
    parts = [
        f"{chosen.name}, {chosen.manifest.variant}\n\n{chosen.sentence}\n{measured(chosen)}",
        _what_goes_in(interface, chosen.model["preprocessing"]["resize"]),
        ENGINES[chosen.runtime](chosen, sizes) if chosen.runtime in ENGINES else "",
        f"TensorFlow Serving, on port 8501\n\n{_serving_command(chosen)}" if chosen.for_serving else NO_SERVING,
        f"Triton, on port 8000\n\n{_triton_command(chosen)}" if chosen.for_triton else NO_TRITON,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def measured(chosen: Choice) -> str:
    """The figures behind the choice, and the machine they hold for."""
    row, machine = chosen.row, chosen.machine
    p50s = ", ".join(f"{batch['p50_ms']:.3g} ms at batch {size}" for size, batch in row["latency"].items())
    device = machine["gpus"][0]["name"] if chosen.on_gpu else f"{machine['cpu']}, {machine['threads']} threads"
    return f"Measured: top-1 {row['top1']:.1%}, p50 {p50s} ({device}); {row['size_bytes'] / 1e6:.1f} MB."


# What comes before the resize, by the name that preprocessing.json has for it.
FITTED = {
    "crop": "the centre in the proportions of `height` x `width`, `crop_fraction` of the largest that fits",
    "stretch": "the whole image",
    "pad": "the whole image in its own proportions, in the middle of black",
}


def _what_goes_in(interface: Record, resize: str) -> str:
    source, result = interface["input"], interface["output"]
    quantised = f"\n{_quantisation(source, result)}" if "scale" in source else ""
    return f"""\
What goes in

Images of shape {source["shape"]} in float32, prepared as preprocessing.json says:
{FITTED[resize]},
a bicubic resize to `height` x `width`, `channels` in that order (gray: the luma of ITU-R 601), then
x * `scale` + `offset` for each channel. The servers do none of this, and answer uint8 pixels with nonsense.{quantised}
Out comes a probability for each line of labels.txt."""


def _quantisation(source: Record, result: Record) -> str:
    return f"""\
Both tensors are {source["type"]}: send round(x / scale) + zero point, clipped to -128 to 127, where the scale is
{source["scale"]:.9g} and the zero point {source["zero_point"]}; a probability is (answer - zero point) * scale, where
the scale is {result["scale"]:.9g} and the zero point {result["zero_point"]}."""


def _engines(chosen: Choice, sizes: list[int]) -> str:
    gpu, tensorrt = chosen.machine["gpus"][0], chosen.machine["tensorrt"]["loaded"]
    return f"""\
TensorRT's engines

They load in TensorRT {tensorrt} alone, on a GPU of compute capability {gpu["compute_capability"]}, and were built
for batches of {", ".join(map(str, sizes))}: fill a batch up to the next of them. The variable
TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION below makes an error of what no engine takes, such as a larger batch:
TensorFlow would otherwise answer it slowly and without a word. The images below were not tried with these engines:
NVIDIA's support matrix says which release of Triton has TensorRT {tensorrt}."""


def _plans(chosen: Choice, sizes: list[int]) -> str:
    gpu, details = chosen.machine["gpus"][0], chosen.row["details"]
    each = f"models {chosen.name}-batchN, which take no other"
    told = (
        f"They load in {details['tensorrt']} alone, on a {gpu['name']} (compute capability "
        f"{gpu['compute_capability']}), and take batches of {', '.join(map(str, sizes))}: "
        f"{each if details['form'] == 'each' else 'one model, up to the last'}. The image below was not tried with "
        f"these engines: NVIDIA's support matrix says which release YY.MM of Triton has {details['tensorrt']}."
    )
    return f"TensorRT's engines\n\n{textwrap.fill(told, 120, break_on_hyphens=False)}"


ENGINES = {"tftrt": _engines, "tensorrt": _plans}


def _docker_run(chosen: Choice, port: int, models: str) -> str:
    gpu = " --gpus all" if chosen.on_gpu else ""
    strict = " -e TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION=False" if chosen.runtime == "tftrt" else ""
    return f'  docker run --rm{gpu} -p {port}:{port}{strict} \\\n    -v "$PWD/{models}:/models:ro"'


def _serving_command(chosen: Choice) -> str:
    image = SERVING_IMAGE + ("-gpu" if chosen.on_gpu else "")
    before = ""
    if chosen.runtime == "tftrt":
        before, image = _tensorrt_image(chosen, image), "serving-tensorrt"
    prefer = " --prefer_tflite_model" if chosen.runtime == "tflite" else ""
    return f"""\
{before}{_docker_run(chosen, 8501, "tensorflow_serving")} {image} \\
    --model_config_file=/models/models.config{prefer}
  curl -d '{{"instances": [...]}}' http://127.0.0.1:8501/v1/models/{chosen.name}:predict"""


def _tensorrt_image(chosen: Choice, image: str) -> str:
    """The stock image has TensorRT 8.4.3 (tensorflow/serving#2205)."""
    cuda = ".".join(str(chosen.machine["cuda"]).split(".")[:2])
    version = f"{chosen.machine['tensorrt']['loaded']}-1+cuda{cuda}"
    packages = f"libnvinfer8={version} libnvinfer-plugin8={version}"
    return f"""\
  # {image} comes with TensorRT 8.4.3, which cannot load these engines
  printf '%s\\n' 'FROM {image}' \\
    'RUN apt-get update && apt-get install -y --allow-change-held-packages {packages}' |
    docker build -t serving-tensorrt -
"""


def _triton_command(chosen: Choice) -> str:
    image = TRITON_TENSORRT_IMAGE if chosen.runtime in ENGINES else TRITON_IMAGE
    if chosen.runtime == "tensorrt" and "TensorRT 8.5.3" not in chosen.row["details"]["tensorrt"]:
        image = TRITON_OTHER_IMAGE
    return f"{_docker_run(chosen, 8000, 'triton')} {image} \\\n    tritonserver --model-repository=/models"
