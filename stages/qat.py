"""Train the model on with its INT8 arithmetic simulated, if a variant ends in -int8-qat."""

from stages.contracts import codec
from stages.contracts.training import QAT, QAT_CURVE, QAT_RECORD
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.model.chosen import ChosenModel
from stages.params import load
from stages.params.data import SplitParams
from stages.params.measurement import BenchmarkParams, variants
from stages.params.model import CustomParams, ModelParams
from stages.params.training import QatParams, TrainParams
from stages.training import qat
from stages.training.curves import write_curves
from stages.training.qat import Job


def main() -> None:
    """Read params, train if they ask for it, and write models/qat, the record and the curve."""
    with files.new_directory(QAT) as folder:
        result = qat.train(job(), variants(), folder)
        record = result.record(folder)
    write_curves(result.curve, QAT_CURVE)
    codec.write(record, QAT_RECORD)
    if record.status.state == "failed":
        # DVC takes the stage for unfinished, and the next run trains again.
        raise PipelineError(str(record.status.reason), code="not-trained")


def job() -> Job:
    """What params.yaml says of the training."""
    chosen = ChosenModel(load.read(ModelParams), load.read(CustomParams))
    seed, threads = load.read(SplitParams).seed, load.read(BenchmarkParams).threads
    return Job(chosen, load.read(TrainParams), load.read(QatParams), seed, threads)


if __name__ == "__main__":
    errors.run(main)
