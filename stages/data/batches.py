"""Folders of images as batches of model input, decoded side by side, a bounded number ahead."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..contracts.preprocessing import Floats, Preprocessing
from ..core.cores import cores
from . import fit
from .census import census
from .decode import decode


def files(folder: Path) -> list[Path]:
    """Every image file below `folder`, in a stable order."""
    return census(folder).images


def load(path: Path, preprocessing: Preprocessing) -> Floats:
    """One image file as model input."""
    return fit.model_input(decode(path, upright=preprocessing.orientation), preprocessing)


def some(folder: Path, preprocessing: Preprocessing, count: int) -> Floats:
    """At most so many images below `folder`, from all over it, as model input: there may be none."""
    paths = files(folder) if folder.is_dir() else []
    places: list[int] = np.unique(np.linspace(0, len(paths) - 1, count).astype(int)).tolist() if paths else []
    return next(
        batches([paths[place] for place in places], preprocessing, count),
        np.empty((0, *preprocessing.shape), np.float32),
    )


def batches(paths: Sequence[Path], preprocessing: Preprocessing, size: int) -> Iterator[Floats]:
    """Model input [<= size, height, width, channels] in order; decoding runs ahead by at most two batches."""
    with ThreadPoolExecutor(cores()) as pool:
        ahead: deque[Future[Floats]] = deque()
        waiting = iter(paths)
        try:
            for start in range(0, len(paths), size):
                while len(ahead) < 3 * size and (path := next(waiting, None)) is not None:
                    ahead.append(pool.submit(load, path, preprocessing))
                yield np.stack([ahead.popleft().result() for _ in range(min(size, len(paths) - start))])
        finally:
            for future in ahead:
                future.cancel()
