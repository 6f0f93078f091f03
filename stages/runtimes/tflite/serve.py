"""What a server must know of a TFLite file."""

from pathlib import Path

import numpy as np

from ..contract import Interface, Tensor
from .session import FILE, Details, interpreter


def describe(folder: Path) -> Interface:
    """The file's only input and output, by the names of their tensors, as TensorFlow Serving calls them."""
    model = interpreter(folder / FILE, xnnpack=False, threads=1)
    (source,), (result,) = model.get_input_details(), model.get_output_details()
    return Interface(_tensor(source), _tensor(result))


def _tensor(details: Details) -> Tensor:
    scale, zero_point = details["quantization"]
    quantization = (float(scale), int(zero_point)) if scale else (None, None)
    shape = tuple(details["shape_signature"].tolist())
    return Tensor(details["name"], np.dtype(details["dtype"]).name, shape, *quantization)
