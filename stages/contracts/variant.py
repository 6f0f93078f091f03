"""The name of a variant: `RUNTIME-PRECISION`, and `RUNTIME-int8-qat` with weights and ranges trained for it."""

import argparse
import re
from dataclasses import dataclass, replace

QAT = "-qat"
# It is part of paths.
FORM = re.compile(rf"([a-z0-9_]+)-([a-z0-9_]+)({QAT})?")


@dataclass(frozen=True, order=True)
class Variant:
    """One way to run the model; `qat` after quantisation-aware training."""

    runtime: str
    precision: str
    qat: bool = False

    @classmethod
    def parse(cls, name: str) -> "Variant":
        """Split `tflite-int8-qat`; ValueError for what has no such form. Which ones exist, the runtimes tell."""
        parts = FORM.fullmatch(name)
        if not parts:
            raise ValueError(f"{name!r} is no variant: its form is RUNTIME-PRECISION, such as tflite-int8")
        return cls(parts[1], parts[2], bool(parts[3]))

    @property
    def name(self) -> str:
        """As params.yaml and the tables write it."""
        return f"{self.runtime}-{self.precision}{QAT if self.qat else ''}"

    @property
    def post_training(self) -> "Variant":
        """The same INT8 without training for it."""
        return replace(self, qat=False)


BASELINE = Variant("savedmodel", "fp32")


def argument(name: str) -> Variant:
    """The same of a command line, which shows why a name is none."""
    try:
        return Variant.parse(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
