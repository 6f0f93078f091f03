"""The trainings of a run of the pipeline: each seed of `train`, and what `qat` made of the model."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stages.contracts.row import Summary
from stages.contracts.training import CURVES, QAT_CURVE, QAT_RECORD, TRAIN, Run
from stages.params.document import Params
from stages.tracking import metrics
from stages.tracking.metrics import Point
from stages.training.curves import read_curve

# Keys of the block `train` that say how a model was made, not how `qat` went on with it.
OF_TRAIN_ALONE = ("backbone", "epochs", "frozen_epochs", "learning_rate")


@dataclass(frozen=True)
class Training:
    """One training: the stage that did it, its result, the parameters it had, and the files it wrote."""

    stage: str
    run: Run
    params: Mapping[str, object]
    figures: list[Point]
    record: Path
    curve: Path
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of its run in MLflow."""
        return f"{self.stage}-seed{self.run.seed}"

    @property
    def identity(self) -> dict[str, str]:
        """What no other training of the same parent has."""
        return {"stage": self.stage, "seed": str(self.run.seed)}

    @property
    def points(self) -> list[Point]:
        """Its figures and its curve."""
        return self.figures + metrics.of_epochs(read_curve(self.curve, self.run.seed))

    @property
    def files(self) -> list[Path]:
        """Artifacts of its run."""
        return [self.record, self.curve]


def trainings(setting: Params, summary: Summary) -> Iterator[Training]:
    """All that took place."""
    train, made, qat = asdict(setting.train), summary.model.training, summary.qat
    for run in made.runs if made else ():
        tags = {"kept": str(made is not None and run.seed == made.seed).lower()}
        yield Training("train", run, {"train": train}, metrics.of_training(run), TRAIN, CURVES, tags)
    if qat and qat.training:
        further = {key: value for key, value in train.items() if key not in OF_TRAIN_ALONE}
        params = {"train": further, "qat": asdict(setting.qat)}
        yield Training("qat", qat.training.run, params, metrics.of_qat(qat.training), QAT_RECORD, QAT_CURVE)
