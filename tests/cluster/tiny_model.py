"""What the tests of a cluster know of their model, and how it is made."""

from pathlib import Path

from stages.contracts.images import CALIBRATION
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.reference import ANSWERS
from tests.fixtures import tiny

VARIANTS = ["savedmodel-fp32", "tflite-fp32", "onnxruntime-int8", "tensorrt-fp16"]
COUNT, BATCH = 30, 4
# Of an object store; nodes have them in their environment.
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
PREPARED = Preprocessing(16, 16, "crop", 0.875, (1 / 255,) * 3, (0.0,) * 3, "rgb")


def save(folder: Path) -> None:
    """In a checkout a SavedModel, model.onnx beside it, and what it answers."""
    answer = tiny.save_tiny_onnx(folder / "models", PREPARED.shape, 6)
    tiny.write_answers(folder / ANSWERS, answer, PREPARED, folder / CALIBRATION)
