"""Accuracy by resize: one table, and a sentence where it matters."""

from collections.abc import Sequence

from stages.contracts.row import Resized, Summary
from stages.contracts.variant import BASELINE
from stages.reporting.format import interval, number
from stages.reporting.grid import Section

# Of the adjusted p-values.
LEVEL = 0.05


def section(summary: Summary) -> Section | None:
    """The baseline's top-1 in each way, on a sample."""
    baseline = summary.baseline()
    resized = baseline.accuracy.resized if baseline and baseline.accuracy else ()
    if not resized:
        return None
    images = resized[0].top1.images
    name = f"Top-1 of {BASELINE.name} on {images} images by resize, of which the first is this run's"
    header = ["resize", "top-1 % [95 % CI]", "p, against the first"]
    return Section(name, 1, [header, *map(_line, resized)])


def _line(found: Resized) -> list[str]:
    share = found.top1
    value = number(share.value, digits=1, scale=100, plain=True)
    top1 = f"{value} {interval(share.ci95, digits=1, scale=100, plain=True)}"
    p_value = found.mcnemar_p_holm
    return [found.way, top1, "" if p_value is None else f"{p_value:.2g}"]


def depends(resized: Sequence[Resized]) -> str | None:
    """What to do where another way gives another accuracy than chance explains; None where none does."""
    different = [one for one in resized if one.mcnemar_p_holm is not None and one.mcnemar_p_holm < LEVEL]
    if not different:
        return None
    here = resized[0].top1
    most = max(different, key=lambda one: abs(one.top1.correct - here.correct))
    return (
        f"depends strongly on how images are resized: top-1 on {here.images} of them is {100 * here.value:.1f} % as "
        f"here ({resized[0].way}) and {100 * most.top1.value:.1f} % otherwise ({most.way}); say what the model was "
        "trained with in custom.preset (docs/how-to/resizing.md)"
    )
