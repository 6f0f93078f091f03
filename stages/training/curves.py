"""The curves of trainings as CSV, a line for each epoch; needs no TensorFlow, so that reports can read them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from stages.core import files

COLUMNS = ("seed", "epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "epoch_s")
# One line by its columns, without those that this epoch does not have.
Epoch = dict[str, float]


def write_curves(epochs: Iterable[Mapping[str, float]], target: Path) -> None:
    """One line for each epoch; what an epoch does not have stays empty."""
    files.write_csv(target, COLUMNS, ([epoch.get(name, "") for name in COLUMNS] for epoch in epochs))


def read_curve(path: Path, seed: int) -> list[Epoch]:
    """The epochs of the training with that seed, of those that `write_curves` wrote."""
    epochs = files.parse_csv(path, lambda row: {name: float(row[name]) for name in COLUMNS if row[name]}, "epochs")
    return [epoch for epoch in epochs if epoch["seed"] == seed]
