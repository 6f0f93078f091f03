"""What a runtime tells of itself without its library: read in the pipeline's own process."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Servers:
    """Which servers take its files as they are: Triton's platform or backend, and TensorFlow Serving."""

    triton: str | None = None
    tensorflow_serving: bool = False


@dataclass(frozen=True)
class Description:
    """DESCRIPTION in a runtime's `__init__`; with `qat`, INT8 may be trained for (`NAME-int8-qat`)."""

    name: str
    precisions: tuple[str, ...]
    starts_from: Literal["saved_model", "onnx"]
    # A frozen dataclass with defaults: the runtime's block of params.yaml, which may be left out.
    options: type
    # What a served model must find installed, in each way it may have come: the first of which all is installed.
    requires: tuple[tuple[str, ...], ...]
    servers: Servers = Servers()
    qat: bool = False
    # Whether results depend on the GPU and its driver, where there is one.
    uses_gpu: bool = False
    # The file of its folder `locks` that its own environment is made of, without an NVIDIA GPU and with one; None: it
    # runs in the pipeline's, or can only say there why it does not run.
    lock: str | None = None
    gpu_lock: str | None = None

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of all that it makes."""
        return tuple(f"{self.name}-{precision}" for precision in self.precisions) + (
            (f"{self.name}-int8-qat",) if self.qat else ()
        )
