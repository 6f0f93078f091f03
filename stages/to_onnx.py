"""Export the SavedModel to ONNX, which the runtimes outside TensorFlow start from, and compare the two."""

from stages.common import errors, files, onnx_export, paths
from stages.common.images import Preprocessing
from stages.common.tf import tensorflow


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
