import pytest
from scipy.stats import binomtest

from stages.contracts.evaluation import Answered, Counts
from stages.contracts.predictions import Prediction, Predictions
from stages.contracts.row import Accuracy, AtChance, ClassChange, Permuted
from stages.statistics.accuracy import compare, share, wilson_ci95


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (18, 20, 0.6990, 0.9721),
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_wilson_matches_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson_ci95(correct, total) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_of_none_and_of_all_stays_inside_0_and_1() -> None:
    assert wilson_ci95(0, 5)[0] == 0
    assert wilson_ci95(5, 5)[1] == 1
    assert 0 < wilson_ci95(0, 5)[1] < 1


@pytest.mark.parametrize(("correct", "total"), [(1, 7), (3, 20), (19, 20), (400, 50_000)])
def test_wilson_is_that_of_scipy(correct: int, total: int) -> None:
    theirs = binomtest(correct, total).proportion_ci(0.95, method="wilson")
    assert wilson_ci95(correct, total) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_a_share_of_an_image_lies_between_two_whole_ones() -> None:
    low, middle, high = (wilson_ci95(correct, 20) for correct in (10, 10.5, 11))
    assert low < middle < high


def test_a_share_has_its_value_and_interval() -> None:
    found = share(18, 20)
    assert (found.value, found.ci95) == (0.9, wilson_ci95(18, 20))


# Variants beside each other.

BASELINE, FP32, FP16, INT8, QAT = "savedmodel-fp32", "tflite-fp32", "tflite-fp16", "tflite-int8", "tflite-int8-qat"


def accuracies(labels: list[int] | None = None, **answers: list[int]) -> dict[str, Accuracy]:
    """From the best class of each image by variant, with _ for -; the label is 0 unless given."""
    predictions = {name.replace("_", "-"): predicted(classes, labels) for name, classes in answers.items()}
    counts = {name: Counts(len(own), sum(p.right for p in own), len(own)) for name, own in predictions.items()}
    return compare(counts, predictions)


def predicted(classes: list[int], labels: list[int] | None = None) -> Predictions:
    pairs = zip(classes, labels or [0] * len(classes), strict=True)
    return Predictions(
        Prediction.plain(f"{i}.jpg", label, [best, 9], [0.5, 0.2]) for i, (best, label) in enumerate(pairs)
    )


def test_agreement_is_with_the_baseline_and_not_with_the_labels() -> None:
    found = accuracies(savedmodel_fp32=[1, 2, 0, 0], tflite_int8=[1, 2, 0, 3])
    assert (found[BASELINE].agreement, found[INT8].agreement) == (1, 0.75)
    assert found[INT8].top1.value == 0.25


def test_two_images_without_an_answer_do_not_agree() -> None:
    def answered(*classes: int | None) -> Predictions:
        return Predictions(
            Prediction.plain(f"{i}.jpg", 0, [] if best is None else [best], [] if best is None else [0.5])
            for i, best in enumerate(classes)
        )

    answers = {BASELINE: answered(0, None, 1, 0), INT8: answered(0, None, 1, None)}
    counts = {
        BASELINE: Counts(4, 2, 2, Answered(1, ("1.jpg",))),
        INT8: Counts(4, 1, 1, Answered(2, ("1.jpg", "3.jpg"))),
    }
    found = compare(counts, answers)[INT8]
    assert (found.agreement, found.answered.without, found.top1.value) == (0.5, 2, 0.25)
    assert found.change and (found.change.lost, found.change.gained, found.change.changed) == (1, 0, 2)


def test_without_the_baseline_nothing_is_compared_with_it() -> None:
    found = accuracies(tflite_int8=[1, 2, 0, 3])[INT8]
    assert (found.agreement, found.change, found.change_from_int8) == (None, None, None)


def test_every_variant_is_compared_with_the_baseline_on_each_image() -> None:
    found = accuracies(savedmodel_fp32=[0, 0, 0, 1], tflite_int8=[0, 1, 2, 0], tflite_fp32=[0, 0, 0, 1])
    int8, fp32 = found[INT8].change, found[FP32].change
    assert found[BASELINE].change is None
    assert int8 and fp32
    assert (int8.lost, int8.gained, int8.changed, int8.drop) == (2, 1, 3, 0.25)
    assert (fp32.changed, fp32.drop) == (0, 0)
    # Exact McNemar of two against one is 1, and Holm keeps it.
    assert int8.mcnemar_p_holm == fp32.mcnemar_p_holm == 1
    assert int8.classes == (ClassChange(0, 4, 2, 1),)


def test_p_values_are_adjusted_for_the_number_of_variants() -> None:
    found = accuracies(savedmodel_fp32=[0] * 8, tflite_int8=[1] * 8, tflite_fp32=[1] * 8, tflite_fp16=[1] * 8)
    changes = [found[name].change for name in (INT8, FP32, FP16)]
    assert [change and change.mcnemar_p for change in changes] == pytest.approx([2 / 2**8] * 3)
    assert [change and change.mcnemar_p_holm for change in changes] == pytest.approx([6 / 2**8] * 3)


def test_other_images_are_not_compared() -> None:
    found = accuracies(savedmodel_fp32=[0, 0, 0, 1], tflite_int8=[0, 0, 0])
    assert (found[INT8].change, found[INT8].agreement) == (None, None)


def test_training_is_compared_with_the_same_int8_without_it() -> None:
    found = accuracies(
        savedmodel_fp32=[0, 0, 0, 0],
        tflite_int8=[0, 1, 1, 2],
        onnxruntime_int8=[0, 0, 0, 0],
        tflite_int8_qat=[1, 0, 0, 2],
    )
    won, change = found[QAT].change_from_int8, found[QAT].change
    assert won and change
    assert (won.images, won.changed, won.lost, won.gained, won.drop) == (4, 3, 1, 2, -0.25)
    assert (change.drop, won.mcnemar_p_holm) == (0.5, None)
    assert [found[name].change_from_int8 for name in (BASELINE, INT8, "onnxruntime-int8")] == [None] * 3


def test_training_without_its_int8_on_the_same_images_is_not_compared() -> None:
    alone = accuracies(savedmodel_fp32=[0, 0, 0, 1], tflite_int8_qat=[0, 0, 0, 0])[QAT]
    fewer = accuracies(savedmodel_fp32=[0, 0, 0, 1], tflite_int8=[0, 0, 0], tflite_int8_qat=[0, 0, 0, 0])[QAT]
    assert alone.change_from_int8 is fewer.change_from_int8 is None
    assert alone.change and alone.change.drop == -0.25


def test_only_a_baseline_is_said_to_be_at_chance() -> None:
    truth, wrong = [0, 1] * 10, [1, 0] * 10
    found = accuracies(truth, savedmodel_fp32=wrong, tflite_int8=wrong)
    assert (found[BASELINE].at_chance, found[INT8].at_chance) == (AtChance(0, 20, 0.5), None)
    assert accuracies(truth, savedmodel_fp32=truth)[BASELINE].at_chance is None


def test_only_of_a_baseline_it_is_said_that_its_classes_are_permuted() -> None:
    truth, other = [0, 1, 2] * 10, [1, 2, 0] * 10
    found = accuracies(truth, savedmodel_fp32=other, tflite_int8=other)
    assert (found[BASELINE].permuted, found[INT8].permuted) == (Permuted(3, 3, 30, 0, 30), None)
    assert accuracies(truth, savedmodel_fp32=truth)[BASELINE].permuted is None
