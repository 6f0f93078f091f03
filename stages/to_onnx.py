"""Export the SavedModel to ONNX, which the runtimes outside TensorFlow start from, and compare the two."""

from stages.contracts import codec
from stages.contracts.environment import FINGERPRINTS, Fingerprints
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, ModelRecord
from stages.core import errors, files
from stages.model import exported


def main() -> None:
    """Read the model's record, export, compare, and write models/onnx and its record, which may say why it is empty."""
    model, asked = codec.read(ModelRecord, MODEL), codec.read(Fingerprints, FINGERPRINTS).onnx
    with files.new_directory(ONNX.parent):
        codec.write(exported.ENDED, ONNX_RECORD)  # what stays if this process is ended
    with files.new_directory(ONNX.parent) as folder:
        record, failures = exported.outcome(model, folder) if asked else (exported.SKIPPED, [])
    codec.write(record, ONNX_RECORD)
    errors.fail(failures)


if __name__ == "__main__":
    errors.run(main)
