"""What the author of a runtime writes, in its folder; the worker calls it in the runtime's interpreter.

A folder has `discover.py` (discover), `convert.py` (convert), `session.py` (open_session) and `serve.py` (describe),
which are imported when they are asked for: only `convert` and `session` may import the runtime's library.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..contracts.conversion import ConvertJob, Proof
from ..contracts.environment import Discovery, Machine
from ..contracts.evaluation import Counts
from ..contracts.messages import BatchOrder, Block, BlockOrder, Loaded, LoadOrder, PredictOrder
from ..contracts.preprocessing import Floats
from ..contracts.timing import Memory, Parts, WarmUp

Array = npt.NDArray[Any]


class Session(Protocol):
    """A loaded model. `run` is what `latency` times; `put`, `run` and `probabilities` are what `latency_host` times."""

    # Whether `put` may return before the tensor is on the device.
    asynchronous: bool
    # Whether a GPU computes.
    on_gpu: bool

    def put(self, images: Floats) -> None:
        """Set the input tensor, float32 [n, height, width, channels], on the runtime's device; n may change."""

    def run(self) -> Array:
        """Infer, and wait until the output tensor is a NumPy array of the model's own type."""

    def probabilities(self, output: Array) -> npt.NDArray[np.float32]:
        """Turn an output into float32 [n, classes]."""

    def prove(self) -> None:
        """Run once more, and fail if anything but the converted model answers; PipelineError says what did.

        There is nothing to do where the runtime has nothing to fall back to.
        """
        return

    def first_not_finite(self, image: Floats) -> str:
        """The first layer that gives NaN or infinity for an image [1, height, width, channels]; empty if not known."""
        return ""

    def gpu_peak_bytes(self) -> int | None:
        """Most GPU memory the runtime's allocator held; None on a CPU, and where the allocator does not tell."""
        return None

    def parts_ms(self) -> Parts | None:
        """Milliseconds of one inference's copies and compute by the GPU's own clock; None where that is not known."""
        return None


@dataclass(frozen=True)
class Tensor:
    """An input or output as a server sees it; `type` is NumPy's name, -1 in a shape is open, None is not recorded."""

    name: str
    type: str
    shape: tuple[int, ...] | None
    # Of an integer tensor: its values are round(x / scale) + zero_point.
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class EngineFile:
    """A file that is a model by itself: it takes batches up to `batch_size`, or of that size alone if `fixed`."""

    file: str
    batch_size: int
    fixed: bool


@dataclass(frozen=True)
class Interface:
    """What a server must know of a converted model."""

    input: Tensor
    output: Tensor
    # Those that an engine was built for; empty where any will do.
    batch_sizes: tuple[int, ...] = ()
    # Of a folder that is no model as a whole.
    engines: tuple[EngineFile, ...] = ()


class Discover(Protocol):
    """NAME/discover.py."""

    def discover(self, machine: Machine) -> Discovery:
        """Versions, and by precision why this machine cannot run it, without importing a framework."""


class Convert(Protocol):
    """NAME/convert.py."""

    def convert(self, job: ConvertJob, options: Any) -> Proof:
        """Write the converted model into job.target; PipelineError where it would not be what its name says."""


class Open(Protocol):
    """NAME/session.py."""

    def open_session(self, folder: Path, precision: str, options: Any, threads: int | None) -> Session:
        """Load a converted model with `threads` CPU threads (None: all cores)."""


class Serve(Protocol):
    """NAME/serve.py."""

    def describe(self, folder: Path) -> Interface:
        """Names, shapes and types of the model's tensors, and its engines, without a GPU."""


class Runner(Protocol):
    """Answers the verbs of predicting and timing: a worker by its Session, or a browser or phone in its own way."""

    def load(self, order: LoadOrder) -> Loaded:
        """Load a variant's model, once."""

    def predict(self, order: PredictOrder) -> Counts:
        """Classify a set of images, and write the table of predictions."""

    def warm_up(self, order: BatchOrder) -> WarmUp:
        """Call at a batch size until the times are stable."""

    def block(self, order: BlockOrder) -> Block:
        """Make timed calls."""

    def prove(self, order: BatchOrder) -> None:
        """PipelineError unless the converted model is what was timed."""

    def memory(self) -> Memory:
        """The most that it held so far."""


def infer(session: Session, images: Floats) -> npt.NDArray[np.float32]:
    """Probabilities [n, classes] of images [n, height, width, channels] from host to host."""
    session.put(images)
    return session.probabilities(session.run())
