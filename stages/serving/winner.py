"""The chosen variant, with what was measured and recorded of it: what is registered and exported."""

from dataclasses import dataclass

from stages.contracts import codec
from stages.contracts.conversion import MANIFEST, Conversion, Manifest, Proof, Scalar, folder
from stages.contracts.environment import Environment, Gpu, RuntimeEnvironment
from stages.contracts.model import ModelRecord
from stages.contracts.row import HERE, Row, Speed, Summary
from stages.contracts.selection import Selection
from stages.core.errors import PipelineError


@dataclass(frozen=True)
class Winner:
    """A choice that was made, and its row on this device."""

    chosen: Selection
    row: Row
    model: ModelRecord
    environment: Environment
    manifest: Manifest

    @classmethod
    def of(cls, chosen: Selection, summary: Summary) -> "Winner":
        """PipelineError unless the figures have the variant, and its model is there."""
        row = next((row for row in summary.here if row.name == chosen.winner), None)
        if row is None:
            raise PipelineError(
                f"{chosen.winner} was chosen, and summary.json has no such variant: run `make repro`, which chooses "
                "anew",
                code="winner-unknown",
                variant=chosen.winner,
            )
        manifest = codec.read(Manifest, folder(row.name) / MANIFEST)
        return cls(chosen, row, summary.model, summary.environments[HERE], manifest)

    @property
    def name(self) -> str:
        """Of the variant."""
        return self.row.name

    @property
    def runtime(self) -> str:
        """Which of the runtimes made it."""
        return self.row.variant.runtime

    @property
    def measured(self) -> RuntimeEnvironment:
        """The edition of the runtime, with its Python and its lock."""
        return self.environment.runtime(self.row.variant.edition)

    @property
    def conversion(self) -> Conversion:
        """What was measured: its files, and what they prove to be."""
        assert self.row.conversion is not None, f"{self.name} was chosen, so it was converted"
        return self.row.conversion

    @property
    def facts(self) -> dict[str, Scalar]:
        """Of the proof of its conversion."""
        return self.proof.facts if self.proof else {}

    @property
    def proof(self) -> Proof | None:
        """That its label is true."""
        return self.conversion.proof

    @property
    def top1(self) -> float:
        """Share of the images that it gets right."""
        assert self.row.accuracy is not None, f"{self.name} was chosen, so it was evaluated"
        return self.row.accuracy.top1.value

    @property
    def speed(self) -> Speed:
        """At the batch size that the choice looked at."""
        speed = self.row.speed(self.chosen.batch_size)
        assert speed is not None, f"{self.name} was chosen, so it was timed"
        return speed

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computed."""
        return self.row.footprint is not None and self.row.footprint.on_gpu

    @property
    def gpu(self) -> Gpu:
        """The one that it was measured on."""
        return self.environment.machine.gpus[0]

    @property
    def tensorrt(self) -> str | None:
        """What its engines were built by, alone or inside TensorFlow, and load in; None for a model without engines."""
        linked = self.facts.get("tensorrt_loaded")
        alone = self.facts.get("tensorrt")
        return str(alone) if alone else f"TensorRT {linked}" if linked else None
