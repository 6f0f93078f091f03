"""Triton: the model repository of an export, and the command that serves it."""

import json
import shutil
from pathlib import Path

from stages.core import files
from stages.serving.docker import run
from stages.serving.served import Served, copy_files, servers
from stages.serving.winner import Winner

FOLDER = "triton"
PORT = 8000
ONLY_TENSORFLOW_SERVING = "Triton has no official backend for TFLite, so this export is for TensorFlow Serving alone."
# With the TensorFlow of TF-TRT (24.01) or, since an engine loads in no other version of TensorRT, with the TensorRT of
# its usual lock (23.03).
IMAGE = "nvcr.io/nvidia/tritonserver:24.01-py3"
TENSORRT_IMAGE = "nvcr.io/nvidia/tritonserver:23.03-py3"
OTHER_IMAGE = "nvcr.io/nvidia/tritonserver:YY.MM-py3"
TENSORRT = "8.5.3"
SAVED_MODEL = "tensorflow_savedmodel"


def takes(winner: Winner) -> bool:
    """Whether one of its official backends loads the winner's files."""
    return servers(winner).triton is not None and "RTX" not in str(winner.tensorrt)


def fill(folder: Path, served: Served, model: Path) -> None:
    """A model of Triton's for the folder as a whole, or for each engine: one of a single size takes no other."""
    if not served.interface.engines:
        inside = "model.savedmodel" if platform(served) == SAVED_MODEL else ""
        copy_files(model, folder / served.name / "1" / inside)
        _describe(folder / served.name, served, served.name, max(served.batch_sizes))
    for engine in served.interface.engines:
        name = f"{served.name}-batch{engine.batch_size}" if engine.fixed else served.name
        (folder / name / "1").mkdir(parents=True)
        shutil.move(model / engine.file, folder / name / "1" / "model.plan")
        _describe(folder / name, served, name, engine.batch_size, engine.fixed)


def _describe(folder: Path, served: Served, name: str, batch_size: int, fixed: bool = False) -> None:
    files.write_text(folder / "labels.txt", served.class_lines)
    files.write_text(folder / "config.pbtxt", config(served, name, batch_size, fixed))


def platform(served: Served) -> str:
    """What Triton calls the runtime."""
    return str(servers(served.winner).triton)


def config(served: Served, name: str, batch_size: int, fixed: bool = False) -> str:
    """A text proto of inference.ModelConfig for batches up to a size, or of it alone if it is fixed.

    Its dims leave out the batch, unless that has one fixed size. TF-TRT forgets the shape of its output, so that comes
    from the model's record.
    """
    source, result = served.interface.input, served.interface.output
    batch = [batch_size] if fixed else []
    return f"""\
name: {json.dumps(name)}
platform: "{platform(served)}"
max_batch_size: {0 if fixed else batch_size}
input {{
  name: {json.dumps(source.name)}
  data_type: TYPE_FP32
  dims: {batch + list(source.shape or ())[1:]}
}}
output {{
  name: {json.dumps(result.name)}
  data_type: TYPE_FP32
  dims: {[*batch, served.winner.model.classes]}
  label_filename: "labels.txt"
}}
instance_group {{ kind: {_kind(served)} }}
{_batching(served)}"""


def _kind(served: Served) -> str:
    """Where Triton runs what was measured on that device alone; a SavedModel without engines runs anywhere."""
    if platform(served) == SAVED_MODEL and not served.interface.batch_sizes:
        return "KIND_AUTO"
    return "KIND_GPU" if served.winner.on_gpu else "KIND_CPU"


def _batching(served: Served) -> str:
    """Fill the engines' batches; elsewhere requests stay as they come.

    Engines with dynamic shapes may serve no sizes but those of their profiles.
    """
    inside = served.interface.batch_sizes and not served.interface.engines
    if not inside or served.winner.manifest.options.get("dynamic_shapes"):
        return ""
    return f"dynamic_batching {{ preferred_batch_size: {list(served.batch_sizes)} }}\n"


def command(served: Served) -> str:
    """Shell lines that serve the export."""
    return f"{run(served.winner, PORT, FOLDER)} {image(served)} \\\n    tritonserver --model-repository=/models"


def image(served: Served) -> str:
    """One with the library that the model was made with; of which release, NVIDIA's support matrix says."""
    tensorrt = served.winner.tensorrt
    if tensorrt is None:
        return IMAGE
    return TENSORRT_IMAGE if TENSORRT in tensorrt or not served.interface.engines else OTHER_IMAGE
