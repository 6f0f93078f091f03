import pytest

from stages.params import load
from stages.params.data import CalibrationParams, SplitParams
from tests.fixtures.params import Edit, mistakes


@pytest.mark.parametrize(("seed", "code"), [(-1, "greater-than-equal"), (2**32, "less-than")])
def test_a_seed_has_32_bits(edit: Edit, seed: int, code: str) -> None:
    edit(("calibration.seed", seed), ("split.seed", seed))
    assert mistakes(lambda: load.read(CalibrationParams)) == {"calibration.seed": code}
    assert mistakes(lambda: load.read(SplitParams)) == {"split.seed": code}


@pytest.mark.parametrize(("part", "code"), [(1.0, "less-than"), (0, "greater-than")])
def test_a_split_leaves_images_on_both_sides(edit: Edit, part: float, code: str) -> None:
    edit(("split.evaluation", part))
    assert mistakes(lambda: load.read(SplitParams)) == {"split.evaluation": code}
