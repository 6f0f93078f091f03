"""Export the SavedModel to ONNX, which the runtimes outside TensorFlow start from, and compare the two."""

from stages.contracts import codec
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, SAVED_MODEL, ModelRecord
from stages.core import errors, files
from stages.core.tensorflow import tensorflow
from stages.model import onnx_export


def main() -> None:
    """Read the model's record, export, compare, and write the ONNX model and its record."""
    model = codec.read(ModelRecord, MODEL)
    with files.new_directory(ONNX.parent) as folder:
        record = onnx_export.write(tensorflow(), SAVED_MODEL, model.preprocessing, folder / ONNX.name, model.name)
    codec.write(record, ONNX_RECORD)


if __name__ == "__main__":
    errors.run(main)
