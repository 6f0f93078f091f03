"""What a loaded model makes of images that are resized in other ways: the verb `probe`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ..contracts import labels
from ..contracts.messages import Probed, ProbeOrder
from ..contracts.preprocessing import Floats, Preprocessing
from ..core.cores import cores
from ..data import decode, fit
from .contract import Session
from .predict import classify


def probe(session: Session, order: ProbeOrder) -> Probed:
    """By way how right the model is on each image of the sample; an image is decoded once for all ways."""
    folder = Path(order.images)
    sample = labels.read_table(folder / "labels.csv")[:: order.step]
    ways = list(order.ways.values())
    found: list[list[float]] = [[] for _ in ways]
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(sample), order.batch_size):
            files, classes = zip(*sample[start : start + order.batch_size], strict=True)
            images = list(pool.map(partial(_prepared, ways), [folder / file for file in files]))
            for place, right in enumerate(found):
                batch = np.stack([image[place] for image in images])
                right += [answer.top1 for answer in classify(session, batch, classes)]
    return Probed(dict(zip(order.ways, found, strict=True)))


def _prepared(ways: Sequence[Preprocessing], path: Path) -> list[Floats]:
    decoded = {upright: decode.decode(path, upright=upright) for upright in {way.orientation for way in ways}}
    return [fit.model_input(decoded[way.orientation], way) for way in ways]
