import pytest

from stages.contracts.evaluation import Probe
from stages.contracts.predictions import Prediction, Predictions
from stages.statistics import resizes
from stages.statistics.paired import holm, mcnemar


def test_each_way_is_compared_with_this_runs_on_the_sample() -> None:
    answers = Predictions(Prediction.plain(f"{n}.png", 0, [n // 2 % 2], [1.0]) for n in range(40))
    here = [1.0, 0.0] * 10
    found = resizes.compare(Probe("bicubic", 2, {"nearest": [1.0] * 20, "area": here}), answers)
    assert [(one.way, one.top1.correct, one.top1.images) for one in found] == [
        ("bicubic", 10, 20),
        ("nearest", 20, 20),
        ("area", 10, 20),
    ]
    assert found[0].mcnemar_p_holm is None
    assert [one.mcnemar_p_holm for one in found[1:]] == pytest.approx(holm([mcnemar(0, 10), 1.0]))
