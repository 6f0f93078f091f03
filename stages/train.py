"""Train the user's model on labelled images, if model.path asks for it: a small network, or a model of the zoo."""

from stages.contracts import codec
from stages.contracts.status import OK, Status
from stages.contracts.training import CURVES, TRAIN, TRAINED, TrainRecord
from stages.core import errors, files
from stages.params import load
from stages.params.data import SplitParams
from stages.params.measurement import BenchmarkParams
from stages.params.model import CustomParams, ModelParams
from stages.params.training import TrainParams
from stages.training import learn
from stages.training.curves import Epoch, write_curves
from stages.training.learn import Job


def main() -> None:
    """Read params, train if they ask for it, and write models/trained, the record and the curves."""
    record, curves = TrainRecord(Status("skipped", "model.path is not trained")), list[Epoch]()
    with files.new_directory(TRAINED.parent) as folder:
        if load.read(ModelParams).trains:
            training, curves = learn.train(job(), folder)
            record = TrainRecord(OK, training)
    write_curves(curves, CURVES)
    codec.write(record, TRAIN)


def job() -> Job:
    """What params.yaml says of the training."""
    seed, threads = load.read(SplitParams).seed, load.read(BenchmarkParams).threads
    return Job(load.read(TrainParams), load.read(CustomParams), seed, threads)


if __name__ == "__main__":
    errors.run(main)
