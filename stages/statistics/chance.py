"""Whether a model only guesses, as it does where its images are prepared otherwise than in its training."""

from collections import Counter
from collections.abc import Sequence

from stages.contracts.predictions import Prediction
from stages.contracts.row import AtChance

LEVEL = 0.01
# Of the way from chance to no error.
USEFUL = 1 / 3


def at_chance(predictions: Sequence[Prediction]) -> AtChance | None:
    """The score and what chance is, if top-1 is no better than always answering the most frequent label.

    That label gets no fewer right than guessing among all classes does. None otherwise, by two one-sided binomial
    tests at 1 %: top-1 is not above chance, and it is below a third of the way from chance to perfect. Without the
    second, too few images to tell would make a guesser of any model. Labels of a single class tell nothing.
    """
    from scipy.stats import binomtest  # takes a second to import, and only `summarize` needs it

    counts = Counter(p.label for p in predictions)
    if len(counts) < 2:
        return None
    images, correct = len(predictions), round(sum(p.top1 for p in predictions))
    chance = max(counts.values()) / images
    better = binomtest(correct, images, chance, "greater").pvalue <= LEVEL
    useless = binomtest(correct, images, chance + USEFUL * (1 - chance), "less").pvalue <= LEVEL
    return AtChance(correct, images, chance) if useless and not better else None
