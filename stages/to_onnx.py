"""Export the SavedModel to ONNX, which the runtimes outside TensorFlow start from, and compare the two."""

from stages.contracts import paths
from stages.contracts.preprocessing import Preprocessing
from stages.core import errors, files
from stages.core.tensorflow import tensorflow
from stages.model import onnx_export


def main() -> None:
    """Read the model's record, export, compare, and write the ONNX model and its record."""
    record = files.read_json(paths.MODEL)
    preprocessing = Preprocessing.from_json(record["preprocessing"])
    with files.new_directory(paths.ONNX.parent) as folder:
        told = onnx_export.write(
            tensorflow(), paths.SAVED_MODEL, preprocessing, folder / paths.ONNX.name, record["name"]
        )
    files.write_json(paths.ONNX_RECORD, told)


if __name__ == "__main__":
    errors.run(main)
