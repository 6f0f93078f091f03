"""TensorFlow Serving: its folder of an export, and the command that serves it."""

import json
from pathlib import Path

from stages.core import files
from stages.serving.docker import run
from stages.serving.served import Served, copy_files, servers
from stages.serving.winner import Winner

FOLDER = "tensorflow_serving"
PORT = 8501
# Of the TensorFlow of TF-TRT; it loads SavedModels of later ones.
IMAGE = "tensorflow/serving:2.14.1"
ENGINES_IMAGE = "serving-tensorrt"
ONLY_TRITON = "TensorFlow Serving takes SavedModels and TFLite alone, so this export is for Triton."
# The CUDA that TensorFlow brings, whose version is in the name of TensorRT's packages.
CUDA = "nvidia-cuda-runtime-cu11"


def takes(winner: Winner) -> bool:
    """Whether it loads the winner's files."""
    return servers(winner).tensorflow_serving


def fill(folder: Path, served: Served, model: Path) -> None:
    """The model as its only version, and the configuration that names it."""
    copy_files(model, folder / served.name / "1")
    files.write_text(folder / "models.config", config(served.name))


def config(name: str) -> str:
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


def command(served: Served) -> str:
    """Shell lines that serve the export and ask it."""
    winner = served.winner
    stock = IMAGE + ("-gpu" if winner.on_gpu else "")
    build, image = (_with_tensorrt(winner, stock), ENGINES_IMAGE) if winner.tensorrt else ("", stock)
    prefer = " --prefer_tflite_model" if winner.proof and winner.proof.kind == "tensor_types" else ""
    return f"""\
{build}{run(winner, PORT, FOLDER)} {image} \\
    --model_config_file=/models/models.config{prefer}
  curl -d '{{"instances": [...]}}' http://127.0.0.1:{PORT}/v1/models/{served.name}:predict"""


def _with_tensorrt(winner: Winner, stock: str) -> str:
    """The stock image has TensorRT 8.4.3 (tensorflow/serving#2205)."""
    cuda = ".".join(winner.measured.versions.get(CUDA, "11.8").split(".")[:2])
    version = f"{winner.facts['tensorrt_loaded']}-1+cuda{cuda}"
    packages = f"libnvinfer8={version} libnvinfer-plugin8={version}"
    return f"""\
  # {stock} comes with TensorRT 8.4.3, which cannot load these engines
  printf '%s\\n' 'FROM {stock}' \\
    'RUN apt-get update && apt-get install -y --allow-change-held-packages {packages}' |
    docker build -t {ENGINES_IMAGE} -
"""
