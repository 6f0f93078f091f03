"""The name of a variant: `RUNTIME-PRECISION`, and `RUNTIME-int8-qat` with weights and ranges trained for it.

The runtime's name may be followed by another of its locks, as in `onnxruntime_1_23-int8`: an edition of the runtime.
"""

import argparse
import re
from dataclasses import dataclass, replace

QAT = "-qat"
# It is part of paths.
FORM = re.compile(rf"([a-z0-9]+)(?:_([a-z0-9]+(?:_[a-z0-9]+)*))?-([a-z0-9_]+)({QAT})?")


@dataclass(frozen=True, order=True)
class Variant:
    """One way to run the model; `qat` after quantisation-aware training."""

    runtime: str
    precision: str
    qat: bool = False
    # The runtime's lock that it is of, such as 1_23; empty for the usual one.
    version: str = ""

    @classmethod
    def parse(cls, name: str) -> "Variant":
        """Split `tflite-int8-qat`; ValueError for what has no such form. Which ones exist, the runtimes tell."""
        parts = FORM.fullmatch(name)
        if not parts:
            raise ValueError(f"{name!r} is no variant: its form is RUNTIME-PRECISION, such as tflite-int8")
        return cls(parts[1], parts[3], bool(parts[4]), parts[2] or "")

    @property
    def name(self) -> str:
        """As params.yaml and the tables write it."""
        return f"{self.edition}-{self.precision}{QAT if self.qat else ''}"

    @property
    def edition(self) -> str:
        """The runtime with its lock, such as `onnxruntime_1_23`."""
        return f"{self.runtime}_{self.version}" if self.version else self.runtime

    @property
    def post_training(self) -> "Variant":
        """The same INT8 without training for it."""
        return replace(self, qat=False)


BASELINE = Variant("savedmodel", "fp32")


def runtime_of(edition: str) -> str:
    """Without its lock: no runtime's name has an underscore."""
    return edition.partition("_")[0]


def title(edition: str) -> str:
    """In tables, such as `onnxruntime 1.23`."""
    runtime, _, version = edition.partition("_")
    return f"{runtime} {version.replace('_', '.')}".strip()


def argument(name: str) -> Variant:
    """The same of a command line, which shows why a name is none."""
    try:
        return Variant.parse(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
