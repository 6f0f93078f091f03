"""Torch checkpoints read as NumPy arrays, without torch and without running what the pickle asks for.

The legacy layout (before torch 1.6) is five pickles, magic number, protocol, system info, state dict and storage
keys, then each storage as an int64 count and raw little-endian values (torch/serialization.py, _legacy_save).
"""

import math
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from stages.core.errors import PipelineError

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}

# What a pickle that is cut short or made up can raise.
DAMAGED = (
    pickle.UnpicklingError, AttributeError, EOFError, LookupError, MemoryError, OverflowError, TypeError, ValueError,
)  # fmt: skip

Array = npt.NDArray[Any]


class _Tensor(NamedTuple):
    """A view into a storage that has not been read yet; sizes and strides count elements."""

    key: str
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _tensor(
    storage: tuple[str, str], offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(*storage, offset, size, stride)


class _Unpickler(pickle.Unpickler):
    """Builds tensors and ordered dictionaries; every other name in the pickle is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise PipelineError(
            f"the checkpoint asks for {module}.{name}, which is not a tensor, and may run code",
            code="checkpoint-not-tensors",
            name=f"{module}.{name}",
        )

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, dtype, key, *_ = pid
        return key, dtype


def read_torch(path: Path) -> dict[str, Array]:
    """State dict of a legacy torch checkpoint; PipelineError for anything but tensors or for a damaged file."""
    try:
        with path.open("rb") as file:
            if _Unpickler(file).load() != MAGIC:
                raise ValueError("no legacy torch header")
            for _ in ("protocol", "system info"):
                _Unpickler(file).load()
            tensors, keys = _Unpickler(file).load(), _Unpickler(file).load()
            dtypes = {tensor.key: tensor.dtype for tensor in tensors.values()}
            storages = {key: _storage(file, dtypes[key]) for key in keys}
        return {name: _view(tensor, storages[tensor.key]) for name, tensor in tensors.items()}
    except PipelineError as error:
        raise PipelineError(
            f"{path.name} is refused: {error}; take the weights from their publisher",
            code="checkpoint-refused",
            file=path.name,
            **error.values,
        ) from None
    except DAMAGED as error:
        raise PipelineError(
            f"{path.name} is not a readable legacy torch checkpoint ({error}): fetch it again",
            code="checkpoint-damaged",
            file=path.name,
        ) from None


def _storage(file: BinaryIO, dtype: str) -> Array:
    size = int(np.frombuffer(file.read(8), "<i8")[0]) * np.dtype(dtype).itemsize
    if not 0 <= size <= os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("the file is cut short")
    return np.frombuffer(file.read(size), dtype)


def _view(tensor: _Tensor, storage: Array) -> Array:
    last = tensor.offset + sum(max(n - 1, 0) * s for n, s in zip(tensor.size, tensor.stride, strict=True))
    inside = 0 <= tensor.offset <= last < len(storage) and min(tensor.stride, default=0) >= 0
    if not inside or math.prod(tensor.size) > len(storage):
        raise ValueError("a tensor reaches outside its storage")
    strides = [s * storage.itemsize for s in tensor.stride]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.size, strides).copy()
