"""A runtime in an environment of its own, from the pipeline's process: what it finds, and a session on a model."""

import tempfile
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ..contracts.environment import Discovery, Machine
from ..contracts.messages import InferOrder, Loaded, LoadOrder
from ..contracts.preprocessing import Floats, Preprocessing
from ..contracts.variant import runtime_of
from ..core import files
from . import environments, registry
from .client import Client
from .contract import Array, Session
from .environments import DIGEST_DIGITS, Lock


def discover(edition: str, lock: Lock, machine: Machine) -> tuple[str, Discovery]:
    """Its Python, and what it finds on this machine: asked once, and kept in the environment while both stay."""
    python, runtime = environments.make(lock).minor, runtime_of(edition)
    kept = lock.folder / f"discovered-{runtime}-{_question(runtime, machine)}.json"
    with suppress(OSError, msgspec.MsgspecError):
        found = msgspec.json.decode(kept.read_bytes(), type=Discovery)
        if found.unavailable.keys() == set(registry.description(runtime).precisions):
            return python, found
    with Client(edition) as client:
        found = client.ask("discover", machine, Discovery)
    with suppress(OSError):  # an environment that others made may be read-only
        files.write_bytes(kept, msgspec.json.encode(found))
    return python, found


def _question(runtime: str, machine: Machine) -> str:
    """A digest of the machine, and of all code that may have its say."""
    folders = (registry.folder(runtime), Path(__file__).with_name("shared"))
    code = [files.sha256(path) for folder in folders for path in sorted(folder.glob("*.py"))]
    return files.combine([*code, msgspec.json.encode(machine, order="sorted").decode()])[:DIGEST_DIGITS]


class Away(Session):
    """A session in a worker, where arrays go by file: for whoever holds images in memory, and not for timing."""

    asynchronous = on_gpu = False

    def __init__(self, edition: str, folder: Path, preprocessing: Preprocessing) -> None:
        """Load the variant in `folder`."""
        self._client = Client(edition)
        self._place = tempfile.TemporaryDirectory()
        try:
            self._client.ask("load", LoadOrder(str(folder), None, preprocessing), Loaded)
        except BaseException:
            self.close()
            raise

    def put(self, images: Floats) -> None:
        """Write them."""
        np.save(self._file("images"), images)

    def run(self) -> Array:
        """Ask, and read the probabilities."""
        order = InferOrder(str(self._file("images")), str(self._file("probabilities")))
        self._client.ask("infer", order, int)
        answered: Array = np.load(self._file("probabilities"))
        return answered

    def probabilities(self, output: Array) -> npt.NDArray[np.float32]:
        """They are."""
        return output

    def close(self) -> None:
        """End the worker."""
        self._client.close()
        self._place.cleanup()

    def _file(self, name: str) -> Path:
        return Path(self._place.name) / f"{name}.npy"
