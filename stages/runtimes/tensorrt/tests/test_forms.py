import pytest

from stages.runtimes.tensorrt import forms
from stages.runtimes.tensorrt.api import Sizes


def test_a_form_has_an_engine_for_each_batch_size_or_one_tuned_for_the_middle() -> None:
    assert forms.ranges("each", (1, 8)) == {"1": Sizes(1, 1, 1), "8": Sizes(8, 8, 8)}
    assert forms.ranges("profile", (1, 8, 32)) == {"1-32": Sizes(1, 8, 32)}


@pytest.mark.parametrize(
    ("profile", "form", "gain"), [(2.0, "each", "2.00"), (1.01, "profile", "1.01"), (0.5, "profile", "0.50")]
)
def test_the_faster_form_is_kept_and_one_engine_if_it_is_close(profile: float, form: str, gain: str) -> None:
    times = {"each": {1: 1.0, 8: 4.0}, "profile": {1: profile, 8: 4.0 * profile}}
    choice = forms.fastest(times)
    assert choice.form == form
    assert choice.because == (
        f"{forms.FORMS[form]}: separate engines run {gain} times as fast as a single one (1.000 against "
        f"{profile:.3f} ms at batch 1, 4.000 against {4 * profile:.3f} ms at batch 8)"
    )
    assert choice.facts() == {
        "form": form, "because": choice.because, "form_p50_ms.each.batch1": 1.0, "form_p50_ms.each.batch8": 4.0,
        "form_p50_ms.profile.batch1": profile, "form_p50_ms.profile.batch8": 4.0 * profile,
    }  # fmt: skip
