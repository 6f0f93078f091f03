"""Converts a SavedModel to a TFLite file, and reads from the file what it computes in."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...contracts.conversion import ConvertJob, Proof, Scalar
from ...contracts.preprocessing import Floats
from ...core.tensorflow import tensorflow
from ..shared import calibration, fp16, saved_model
from .options import Options
from .session import FILE, Details, interpreter

if TYPE_CHECKING:
    from tensorflow.lite.python.lite import TFLiteConverterV2


def convert(job: ConvertJob, options: Options) -> Proof:
    """Convert with TensorFlow; `int8` is full integer, its input and output tensors too."""
    path = Path(job.target) / FILE
    lost = fp16.of(job.precision, lambda: saved_model.weights(Path(job.saved_model)))
    path.write_bytes(_converter(job).convert())
    return Proof("tensor_types", {}, {"xnnpack": options.xnnpack, **lost.facts, **tensor_types(path)}, lost.notes)


def _converter(job: ConvertJob) -> "TFLiteConverterV2":
    tf = tensorflow()
    converter = tf.lite.TFLiteConverter.from_saved_model(job.saved_model, signature_keys=["serving_default"])
    if job.precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job.precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if job.precision == "int8":
        converter.representative_dataset = lambda: _samples(job)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter


def _samples(job: ConvertJob) -> Iterator[list[Floats]]:
    for batch in calibration.batches(job, 1):
        yield [batch]


def tensor_types(path: Path) -> dict[str, Scalar]:
    """Element types of the interface, and how many tensors have which, stored weights among them."""
    model = interpreter(path, xnnpack=False, threads=1)
    counts = Counter(_type(tensor) for tensor in model.get_tensor_details())
    (source,), (result,) = model.get_input_details(), model.get_output_details()
    ends = {"input_type": _type(source), "output_type": _type(result)}
    return {**ends, **{f"tensors.{name}": count for name, count in sorted(counts.items())}}


def _type(tensor: Details) -> str:
    return np.dtype(tensor["dtype"]).name
