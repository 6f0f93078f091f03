"""The name of a variant: `RUNTIME-PRECISION`, and `RUNTIME-int8-qat` with weights and ranges trained for it."""

from dataclasses import dataclass, replace

QAT = "-qat"


@dataclass(frozen=True, order=True)
class Variant:
    """One way to run the model; `qat` after quantisation-aware training."""

    runtime: str
    precision: str
    qat: bool = False

    @classmethod
    def parse(cls, name: str) -> "Variant":
        """Split `tflite-int8-qat`; ValueError for what has no such form. Which ones exist, the runtimes tell."""
        runtime, dash, precision = name.removesuffix(QAT).partition("-")
        if not (runtime and dash and precision) or "-" in precision:
            raise ValueError(f"{name!r} is no variant: its form is RUNTIME-PRECISION, such as tflite-int8")
        return cls(runtime, precision, name.endswith(QAT))

    @property
    def name(self) -> str:
        """As params.yaml and the tables write it."""
        return f"{self.runtime}-{self.precision}{QAT if self.qat else ''}"

    @property
    def post_training(self) -> "Variant":
        """The same INT8 without training for it."""
        return replace(self, qat=False)


BASELINE = Variant("savedmodel", "fp32")
