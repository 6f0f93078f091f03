"""Asks the baseline's worker how its answers depend on the resize, on a sample of the evaluation images."""

from dataclasses import replace

from stages.contracts import labels
from stages.contracts.evaluation import Probe
from stages.contracts.images import EVALUATION, TABLE
from stages.contracts.messages import Probed, ProbeOrder
from stages.contracts.preprocessing import Method, Preprocessing
from stages.data import decode
from stages.runtimes.client import Client

MOST_IMAGES = 64
# What people train with, by Pillow; without antialiasing it differs from others by rounding.
METHODS: tuple[tuple[Method, bool], ...] = (
    ("nearest", False),
    ("bilinear", False),
    ("bilinear", True),
    ("bicubic", True),
)


def ask(client: Client, prepared: Preprocessing, batch_size: int) -> Probe:
    """How right the loaded model is on each image of the sample, in each other way."""
    table = labels.read_table(EVALUATION / TABLE)
    step = -(-len(table) // MOST_IMAGES)
    turned = any(decode.turns(EVALUATION / file) for file, _ in table[::step])
    order = ProbeOrder(str(EVALUATION), step, batch_size, ways(prepared, turned))
    return Probe(prepared.arithmetic, step, client.ask("probe", order, Probed).top1)


def ways(prepared: Preprocessing, turned: bool) -> dict[str, Preprocessing]:
    """By name all but how it is done; other turns only where a tag turns an image."""
    usual = [replace(prepared, method=method, antialias=grows, library="pillow") for method, grows in METHODS]
    here = prepared.method, prepared.antialias
    found = {way.arithmetic: way for way in usual if (way.method, way.antialias) != here}
    if turned:
        name = "as it is stored" if prepared.orientation else "turned as its EXIF tag says"
        found[f"{prepared.arithmetic}, {name}"] = replace(prepared, orientation=not prepared.orientation)
    return found
