"""The SavedModel as TensorFlow runs it: the baseline that every other variant is compared with."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contracts.preprocessing import Floats
from ..core import files
from ..core.tensorflow import tensorflow
from .contract import Job, Session


def unavailable(precision: str, environment: dict[str, Any]) -> str | None:
    """TensorFlow runs everywhere."""
    return None


def convert(job: Job) -> dict[str, Any]:
    """Copy: the baseline is the SavedModel itself."""
    shutil.copytree(job.saved_model, job.target, dirs_exist_ok=True)
    return {"tf32": job.options["tf32"]} | part_sizes(job.target)


def part_sizes(folder: Path) -> dict[str, int]:
    """Bytes of a SavedModel's variables, of its graph and of TensorRT's engines inside it."""
    found = files.sizes(folder)

    def share(prefix: str) -> int:
        return sum(size for name, size in found.items() if name.startswith(prefix))

    return {
        "variables_bytes": share("variables/"),
        "graph_bytes": share("saved_model.pb"),
        "engine_bytes": share("assets/trt-serialized-engine."),
    }


class SavedModelSession(Session):
    """The serving signature, called with a tensor; `predict()` of Keras would add its own loop to every call."""

    def __init__(self, folder: Path, threads: int | None, tf32: bool) -> None:
        """Load the signature; its tensors live on the GPU if TensorFlow has one."""
        self._tf = tensorflow(threads, tf32)
        self._model = self._tf.saved_model.load(str(folder))
        self._signature = self._model.signatures["serving_default"]
        (self._output,) = self._signature.structured_outputs  # TF-TRT gives the only output a name of its own
        self.on_gpu = self.asynchronous = bool(self._tf.config.list_logical_devices("GPU"))
        self._images: Any = None

    def put(self, images: Floats) -> None:
        """Make a tensor on the device; on a GPU the copy may still be under way when this returns."""
        self._images = self._tf.identity(self._tf.constant(images))

    def run(self) -> npt.NDArray[Any]:
        """Call the signature and fetch its output."""
        output: npt.NDArray[Any] = self._signature(images=self._images)[self._output].numpy()
        return output

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Nothing to do."""
        return output

    def gpu_peak_bytes(self) -> int | None:
        """TensorFlow's allocator knows, and TF-TRT's engines use it too."""
        return int(self._tf.config.experimental.get_memory_info("GPU:0")["peak"]) if self.on_gpu else None


def load(folder: Path, precision: str, options: dict[str, Any], threads: int | None) -> Session:
    """A session on the signature of the SavedModel in `folder`."""
    return SavedModelSession(folder, threads, options["tf32"])
