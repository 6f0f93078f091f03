"""Converts a SavedModel to a TFLite file, and reads from the file what it computes in."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ...contracts.conversion import ConvertJob, Proof, Scalar
from ...contracts.preprocessing import Floats
from ...core.tensorflow import layer, tensorflow
from ...core.unseen import without_log
from ..shared import calibration, fp16, saved_model
from . import operators, trouble
from .options import Options
from .session import FILE, Details, interpreter

if TYPE_CHECKING:
    from tensorflow.lite.python.lite import TFLiteConverterV2


def convert(job: ConvertJob, options: Options) -> Proof:
    """Convert with TensorFlow; `int8` is full integer, its input and output tensors too."""
    tensorflow()
    from tensorflow.lite.python.convert_phase import ConverterError

    path = Path(job.target) / FILE
    lost = fp16.of(job.precision, lambda: saved_model.weights(Path(job.saved_model)))
    try:
        _write(job, path, options)
    except (ConverterError, RuntimeError, ValueError) as error:
        raise trouble.explain(error, partial(_layer, job, options), partial(_runs_fixed, job, options)) from None
    counts = {f"operations.{name}": count for name, count in sorted(operators.count(path.read_bytes()).items())}
    facts = {"xnnpack": options.xnnpack, **lost.facts, **tensor_types(path), **counts}
    return Proof("tensor_types", {}, facts, lost.notes)


def _write(job: ConvertJob, path: Path, options: Options, fixed: bool = False) -> None:
    """Write the file, which has its weights, and run it once, since a file may fail there alone."""
    with without_log():
        content = _converter(job, fixed).convert()
    operators.refuse_variables(content)
    path.write_bytes(content)
    model = interpreter(path, options.xnnpack, threads=1)
    model.allocate_tensors()
    model.invoke()


def _runs_fixed(job: ConvertJob, options: Options) -> bool:
    """Whether it would with one image at a time."""
    with tempfile.TemporaryDirectory() as folder, suppress(Exception):
        _write(job, Path(folder) / FILE, options, fixed=True)
        return True
    return False


def _layer(job: ConvertJob, options: Options, node: int) -> str:
    """The layer of a node of the file in FP32: calibration fails before there is another."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        path.write_bytes(_converter(replace(job, precision="fp32")).convert())
        model = interpreter(path, options.xnnpack, threads=1)
        output = model._get_ops_details()[node]["outputs"][0]
        names = {tensor["index"]: str(tensor["name"]) for tensor in model.get_tensor_details()}
        return layer([names[output]])


def _converter(job: ConvertJob, fixed: bool = False) -> "TFLiteConverterV2":
    tf = tensorflow()
    converter = _source(tf, job, fixed)
    if job.precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if job.precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if job.precision == "int8":
        converter.representative_dataset = lambda: _samples(job)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter


def _source(tf: ModuleType, job: ConvertJob, fixed: bool) -> "TFLiteConverterV2":
    """Of the SavedModel as it is, or of one image at a time."""
    if not fixed:
        return tf.lite.TFLiteConverter.from_saved_model(job.saved_model, signature_keys=["serving_default"])
    model = tf.saved_model.load(job.saved_model)
    signature = model.signatures["serving_default"]
    one = tf.TensorSpec([1, *job.preprocessing.shape], tf.float32)
    serve = tf.function(lambda images: signature(images=images)).get_concrete_function(one)
    return tf.lite.TFLiteConverter.from_concrete_functions([serve], model)


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
