"""Fetch the model's weights, or the user's own model, and the names of its classes into data/model."""

import argparse
from pathlib import Path

from stages.contracts import codec, labels, zoo
from stages.contracts.labels import LABELS, Labels
from stages.contracts.model import DOWNLOAD, WEIGHTS, DownloadRecord
from stages.core import errors, files
from stages.model import weights
from stages.params import load
from stages.params.data import EvaluationParams, SplitParams
from stages.params.model import CUSTOM, CustomParams, ModelParams
from stages.params.training import TrainParams


def main() -> None:
    """Read params, fetch, and write data/model and its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="where relative paths of params.yaml start")
    checkout = parser.parse_args().checkout
    model = load.read(ModelParams)
    with files.new_directory(WEIGHTS) as folder:
        file = weights.fetch(model, load.read(TrainParams).backbone, checkout, folder)
        names = (
            custom_labels(checkout) if model.name == CUSTOM else weights.fetch_labels(zoo.entry(model.name).label_set)
        )
        labels.write(names, folder / LABELS.name)
        name, digest = (file.name, files.digest(file)) if file else (None, None)
    codec.write(DownloadRecord(model.name, model.weights, model.path, name, digest, names.order), DOWNLOAD)


def custom_labels(checkout: Path) -> Labels:
    """Those that custom.labels lists, or those of the labelled images."""
    images = load.read(SplitParams).source or load.read(EvaluationParams).source
    return weights.custom_labels(load.read(CustomParams).labels, images, checkout)


if __name__ == "__main__":
    errors.run(main)
