"""Images whose prediction changed against the baseline's, with both answers and a thumbnail of each."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stages.contracts import predictions
from stages.contracts.evaluation import predictions_path
from stages.contracts.labels import Labels
from stages.contracts.predictions import Prediction
from stages.contracts.row import Row
from stages.contracts.variant import BASELINE
from stages.core.errors import PipelineError
from stages.data import decode
from stages.reporting.format import NBSP

THUMBNAIL_PIXELS = 160
THUMBNAIL_QUALITY = 75
# Of each variant.
THUMBNAILS = 24
# What an image's prediction became, in the order of the gallery.
KINDS = {"lost": "right before, wrong now", "gained": "wrong before, right now", "other": "wrong before and now"}
Pair = tuple[Prediction, Prediction]
# The thumbnail of an image by its name, in base64.
Picture = Callable[[str], str | None]


@dataclass(frozen=True)
class Changed:
    """An image whose best class is not the baseline's."""

    file: str
    kind: str
    label: str
    before: str
    after: str
    image: str | None


@dataclass(frozen=True)
class Gallery:
    """The changed images of one variant: how many of each kind, and the first of them."""

    variant: str
    images: int
    counts: dict[str, int]
    shown: list[Changed]


def galleries(rows: Sequence[Row], labels: Labels, picture: Picture) -> list[Gallery]:
    """What changed against the baseline, one gallery for each variant that is compared with it."""
    baseline = predictions.read(predictions_path(BASELINE.name))
    compared = [row.name for row in rows if row.accuracy and row.accuracy.change]
    return [gallery(name, baseline, labels, picture) for name in compared]


def gallery(name: str, baseline: Sequence[Prediction], labels: Labels, picture: Picture) -> Gallery:
    """That of one variant, whose predictions are on the same images."""
    answers = predictions.read(predictions_path(name))
    pairs = [
        pair for pair in zip(baseline, answers, strict=True) if pair[0].best is None or pair[0].best != pair[1].best
    ]
    kinds = [_kind(*pair) for pair in pairs]
    shown = [_changed(*pair, labels, picture) for pair in sorted(pairs, key=_first_lost)[:THUMBNAILS]]
    return Gallery(name, len(answers), {kind: kinds.count(kind) for kind in KINDS}, shown)


def _kind(before: Prediction, after: Prediction) -> str:
    return "lost" if before.right else "gained" if after.right else "other"


def _first_lost(pair: Pair) -> tuple[int, float, str]:
    """Order of the gallery: by kind, the surest answers first."""
    return list(KINDS).index(_kind(*pair)), -pair[1].score, pair[1].file


def _changed(before: Prediction, after: Prediction, labels: Labels, picture: Picture) -> Changed:
    old, new = (
        "no answer" if one.best is None else f"{labels.name(one.best)}, {100 * one.score:.1f}{NBSP}%"
        for one in (before, after)
    )
    return Changed(after.file, _kind(before, after), labels.name(after.label), old, new, picture(after.file))


@cache
def thumbnail(path: Path, upright: bool) -> str | None:
    """A small JPEG in base64, turned as the model saw it; None for a file that cannot be read."""
    try:
        image = decode.decode(path, upright=upright)
    except PipelineError:
        return None
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    small = io.BytesIO()
    image.save(small, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return base64.b64encode(small.getvalue()).decode()
