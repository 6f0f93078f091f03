"""What a server must know of a folder of engines."""

from pathlib import Path

from ...contracts import codec
from ..contract import EngineFile, Interface, Tensor
from .session import RECORD, Engines


def describe(folder: Path) -> Interface:
    """The engines' tensors, read from the record beside them: to open an engine takes its GPU."""
    record = codec.read(Engines, folder / RECORD)
    # Of an engine for several sizes, the last is the largest.
    largest = {file: size for size, file in record.engines}
    engines = tuple(EngineFile(file, size, record.form == "each") for file, size in largest.items())
    source = Tensor(record.input, "float32", (-1, *record.input_shape))
    sizes = tuple(size for size, _ in record.engines)
    return Interface(source, Tensor(record.output, "float32", None), sizes, engines)
