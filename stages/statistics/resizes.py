"""How the baseline's accuracy depends on the way in which images are resized."""

from collections.abc import Sequence

from stages.contracts.evaluation import Probe
from stages.contracts.predictions import Prediction
from stages.contracts.row import Resized
from stages.statistics import paired
from stages.statistics.accuracy import share


def compare(probe: Probe, answers: Sequence[Prediction]) -> tuple[Resized, ...]:
    """As it is done here first, then each other way, by whether the same images are right."""
    here = [answers[place].top1 for place in range(0, len(answers), probe.step)]
    p_values = paired.holm([_p_value(here, there) for there in probe.top1.values()])
    others = [
        Resized(way, share(sum(there), len(there)), p_value)
        for (way, there), p_value in zip(probe.top1.items(), p_values, strict=True)
    ]
    return (Resized(probe.here, share(sum(here), len(here))), *others)


def _p_value(here: Sequence[float], there: Sequence[float]) -> float:
    changes = [new - old for old, new in zip(here, there, strict=True)]
    return paired.mcnemar(-sum(change for change in changes if change < 0), sum(c for c in changes if c > 0))
