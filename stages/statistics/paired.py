"""Accuracy of a variant against the baseline's on the same images: what changed, and what can be told from that."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from stages.contracts.predictions import Prediction
from stages.contracts.row import Change, ClassChange

RESAMPLES = 9999
Z95 = NormalDist().inv_cdf(0.975)
# With this much more, an interval lies on its side of a limit four times in five, and not every other time.
POWER80 = NormalDist().inv_cdf(0.8)
MOST_IMAGES = 10_000_000
CLASSES_SHOWN = 10


def compare(baseline: Sequence[Prediction], variant: Sequence[Prediction]) -> Change:
    """What changes between two lists of predictions on the same images in the same order."""
    lost, gained, changed = defaultdict[int, float](float), defaultdict[int, float](float), 0
    for old, new in zip(baseline, variant, strict=True):
        changed += old.best is None or old.best != new.best
        if old.top1 != new.top1:
            (lost if old.top1 > new.top1 else gained)[old.label] += abs(old.top1 - new.top1)
    total, fewer, more = len(baseline), sum(lost.values()), sum(gained.values())
    return Change(
        images=total,
        changed=changed,
        lost=fewer,
        gained=more,
        drop=(fewer - more) / total,
        drop_ci95=score_ci95(fewer, more, total),
        drop_bootstrap_ci95=bootstrap_ci95(fewer, more, total),
        mcnemar_p=mcnemar(fewer, more),
        classes=_most_changed(Counter(old.label for old in baseline), lost, gained),
    )


def same_images(first: Sequence[Prediction], second: Sequence[Prediction]) -> bool:
    """Whether both are of the same images in the same order, and of one at least."""
    alike = all(one.file == other.file for one, other in zip(first, second, strict=False))
    return len(first) == len(second) > 0 and alike


def adjust(changes: Mapping[str, Change]) -> dict[str, Change]:
    """The same changes with their p-values adjusted for how many there are."""
    adjusted = holm([change.mcnemar_p for change in changes.values()])
    return {
        name: replace(change, mcnemar_p_holm=p_value)
        for (name, change), p_value in zip(changes.items(), adjusted, strict=True)
    }


def _most_changed(
    images: Mapping[int, int], lost: Mapping[int, float], gained: Mapping[int, float]
) -> tuple[ClassChange, ...]:
    changes = [
        ClassChange(label, images[label], lost.get(label, 0), gained.get(label, 0)) for label in {**lost, **gained}
    ]
    return tuple(sorted(changes, key=lambda c: (-c.lost - c.gained, -c.lost, c.label))[:CLASSES_SHOWN])


def mcnemar(lost: float, gained: float) -> float:
    """Exact two-sided p of McNemar's test (1947, Psychometrika 12:153): a flip either way is equally likely.

    The test is of whole flips, to which the shares that ties add are rounded.
    """
    from scipy.stats import binomtest

    fewer, more = round(lost), round(gained)
    return float(binomtest(fewer, fewer + more).pvalue) if fewer + more else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979, Scandinavian Journal of Statistics 6:65), in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def bootstrap_ci95(lost: float, gained: float, images: int) -> tuple[float, float]:
    """Percentile bootstrap of the drop over image pairs; resampling pairs is drawing counts from a multinomial."""
    shares = [lost / images, gained / images, max(0.0, 1 - (lost + gained) / images)]
    counts = np.random.default_rng(0).multinomial(images, shares, RESAMPLES)
    low, high = np.percentile((counts[:, 0] - counts[:, 1]) / images, (2.5, 97.5))
    return float(low), float(high)


def score_ci95(lost: float, gained: float, images: float, z: float = Z95) -> tuple[float, float]:
    """Tango's score interval for a difference of paired shares (1998, Statistics in Medicine 17:891, eq. 10)."""
    from scipy.optimize import brentq

    drop = (lost - gained) / images

    def beyond(limit: float) -> float:
        return _score(lost, gained, images, limit) ** 2 - z**2

    edge = 1e-12
    low = brentq(beyond, -1 + edge, drop) if drop > -1 + edge else -1.0
    high = brentq(beyond, drop, 1 - edge) if drop < 1 - edge else 1.0
    return float(low), float(high)


def _score(lost: float, gained: float, images: float, limit: float) -> float:
    """How many standard errors the drop lies above `limit`, the error taken as if `limit` were true."""
    linear = -lost - gained + (2 * images - lost + gained) * limit
    root = math.sqrt(max(0.0, linear**2 + 8 * images * gained * limit * (1 - limit)))
    variance = images * ((root - linear) / (2 * images) + limit * (1 - limit))
    distance = lost - gained - images * limit
    return 0.0 if distance == 0 else distance / math.sqrt(max(variance, 1e-300))


def images_needed(lost: float, gained: float, images: int, limit: float) -> int | None:
    """About how many images would tell, four times in five, on which side of `limit` the drop lies.

    Taking flips to keep their shares, and to two digits; None for more than `MOST_IMAGES`, so close is it.
    """

    def tells(factor: float) -> bool:
        low, high = score_ci95(lost * factor, gained * factor, images * factor, Z95 + POWER80)
        return high <= limit or low > limit

    reach = 1.0
    while not tells(reach):
        reach *= 2
        if images * reach > MOST_IMAGES:
            return None
    enough, short = reach, reach / 2
    for _ in range(20):
        middle = (enough + short) / 2
        enough, short = (middle, short) if tells(middle) else (enough, middle)
    needed = math.ceil(images * enough)
    step = int(10 ** max(0, len(str(needed)) - 2))
    return math.ceil(needed / step) * step
