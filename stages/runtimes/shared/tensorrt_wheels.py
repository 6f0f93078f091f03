"""The TensorRT that Python can import, whose engines need no TensorFlow: found by its wheel, never imported."""

from dataclasses import dataclass

from . import distributions

# By what the Python module comes, the one that is preferred first; its libraries are beside the bindings.
WHEELS = ("tensorrt", "tensorrt-cu12-bindings", "tensorrt-cu13-bindings", "tensorrt-rtx-cu13-bindings")
CUDA_BINDINGS = "cuda-bindings"


@dataclass(frozen=True)
class Installed:
    """A wheel and its version."""

    wheel: str
    version: str

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return "rtx" in self.wheel

    @property
    def name(self) -> str:
        """In a sentence."""
        return f"{'TensorRT-RTX' if self.is_rtx else 'TensorRT'} {self.version}"


def installed() -> Installed | None:
    """The one that the runtime `tensorrt` imports. TensorRT-RTX without CUDA's bindings is here for the tests."""
    names = [name for name in WHEELS if "rtx" not in name or distributions.version(CUDA_BINDINGS)]
    wheels = (Installed(*item) for item in distributions.versions(*names).items())
    return next(wheels, None)
