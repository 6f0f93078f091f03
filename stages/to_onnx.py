"""Export the SavedModel to ONNX, which the runtimes outside TensorFlow start from, and compare the two."""

from stages.contracts import codec
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, SAVED_MODEL, ModelRecord
from stages.core import errors, files
from stages.core.tensorflow import tensorflow
from stages.model import examples, onnx_export


def main() -> None:
    """Read the model's record, export, compare, and write the ONNX model and its record."""
    model = codec.read(ModelRecord, MODEL)
    with files.new_directory(ONNX.parent) as folder:
        shown = examples.read(model.preprocessing)
        target = folder / ONNX.name
        record = onnx_export.write(tensorflow(), SAVED_MODEL, target, model.name, shown, model.largest_logit)
    codec.write(record, ONNX_RECORD)


if __name__ == "__main__":
    errors.run(main)
