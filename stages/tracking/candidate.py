"""The winner of a choice as it may be registered: what makes it the same as a version, and what is said of it."""

import json
from dataclasses import dataclass

from stages.contracts import labels
from stages.contracts.conversion import Conversion, Manifest
from stages.contracts.model import ModelRecord
from stages.core import files
from stages.serving.winner import Winner
from stages.tracking.store import digest


@dataclass(frozen=True)
class Candidate:
    """The winner, the pipeline run that measured it, and how many images of a request it answers at a time."""

    winner: Winner
    run: str
    batch_size: int

    @property
    def name(self) -> str:
        """Of the variant."""
        return self.winner.name

    @property
    def identity(self) -> dict[str, str]:
        """Tags that no version of other answers has."""
        return identity(self.winner.manifest, self.winner.conversion, self.winner.model)

    @property
    def story(self) -> dict[str, str]:
        """Tags that say where it comes from, what it was measured to be, and why it was chosen."""
        winner, chosen = self.winner, self.winner.chosen
        tags = {
            "run": self.run,
            "environment": digest(winner.environment),
            "python": winner.measured.python,
            "top1": str(winner.top1),
            "p50_ms": str(winner.speed.latency.p50_ms),
            "p50_batch_size": str(chosen.batch_size),
            "reason": chosen.sentence,
        }
        needs, lock = requires(winner), winner.measured.lock
        return tags | ({"requires": needs} if needs else {}) | ({"lock": lock} if lock else {})

    @property
    def description(self) -> str:
        """The same in sentences."""
        winner, chosen = self.winner, self.winner.chosen
        p50 = f"p50 {winner.speed.latency.p50_ms:.3g} ms at batch {chosen.batch_size}"
        measured = f"{self.name} of pipeline run {self.run}: top-1 {winner.top1:.1%}, {p50}."
        needs = requires(winner)
        return f"{measured} {chosen.sentence}" + (f" Requires {needs}." if needs else "")


def identity(manifest: Manifest, conversion: Conversion, model: ModelRecord) -> dict[str, str]:
    """A variant's files, and all that stands between an image and its class."""
    return {
        "variant": manifest.variant.name,
        "model_sha256": str(conversion.sha256),
        "preprocessing": digest(model.preprocessing),
        "options": json.dumps(manifest.options, sort_keys=True),
        "labels": files.sha256(labels.LABELS),
    }


def requires(winner: Winner) -> str | None:
    """The GPU and the TensorRT that engines run on; None where nothing is tied to them."""
    if winner.tensorrt is None:
        return None
    return (
        f"an NVIDIA GPU of compute capability {winner.gpu.compute_capability} (its engines were built on a "
        f"{winner.gpu.name}) and {winner.tensorrt}"
    )
