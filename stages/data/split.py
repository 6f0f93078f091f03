"""Divide one set of images in two: stratified by class, seeded, and near duplicates on the same side."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from stages.core.errors import PipelineError
from stages.data.image_file import ImageFile


def divide(
    images: list[ImageFile], groups: Sequence[int], share: float, seed: int
) -> tuple[list[ImageFile], list[ImageFile]]:
    """The rest, and `share` of each class for the evaluation, both in the order of their names.

    `groups` has a number for each image; those of one number stay together. Each class comes as near to its share
    as whole groups allow, and one of two groups or more is on both sides, unless another class in its groups decides.
    The order of `images` does not matter. PipelineError if nothing is left for one side.
    """
    # scikit-learn's StratifiedShuffleSplit knows no groups, and its StratifiedGroupKFold gives no share but 1/k.
    ordered = sorted(zip(images, groups, strict=True), key=lambda pair: pair[0].name)
    rng = random.Random(seed)
    sizes: dict[int | None, Counter[int]] = defaultdict(Counter)
    for image, group in ordered:
        sizes[image.label][group] += 1
    quotas = _quotas({label: size.total() for label, size in sizes.items()}, round(share * len(images)), rng)
    taken: dict[int, bool] = {}
    for label in sorted(sizes, key=lambda label: len(sizes[label])):  # the fewer groups, the less choice
        _take(sizes[label], quotas[label], taken, rng)
    rest = [image for image, group in ordered if not taken[group]]
    evaluation = [image for image, group in ordered if taken[group]]
    if not rest or not evaluation:
        raise PipelineError(
            f"{len(images)} images in {len(set(groups))} groups of near duplicates cannot be divided with "
            f"{share:g} of them on one side: add other images, or name two sources",
            code="split-impossible",
            images=len(images),
            groups=len(set(groups)),
            share=share,
        )
    return rest, evaluation


def choose(images: list[ImageFile], count: int, seed: int) -> list[ImageFile]:
    """`count` images of at least as many, of each class its share, in the order of their names."""
    rng = random.Random(seed)
    classes: dict[int | None, list[ImageFile]] = defaultdict(list)
    for image in sorted(images, key=lambda image: image.name):
        classes[image.label].append(image)
    quotas = _quotas({label: len(members) for label, members in classes.items()}, count, rng)
    chosen = [image for label, members in classes.items() for image in rng.sample(members, quotas[label])]
    return sorted(chosen, key=lambda image: image.name)


def _quotas(counts: dict[int | None, int], total: int, rng: random.Random) -> dict[int | None, int]:
    """`total` divided in proportion to `counts`: the largest remainders are rounded up, equal ones by chance."""
    whole = sum(counts.values())
    exact = {label: count * total / whole for label, count in counts.items()}
    quotas = {label: int(value) for label, value in exact.items()}
    by_remainder = sorted(rng.sample(list(counts), len(counts)), key=lambda label: quotas[label] - exact[label])
    for label in by_remainder[: total - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _take(sizes: Counter[int], quota: int, taken: dict[int, bool], rng: random.Random) -> None:
    """Say in `taken` of each group of a class whether it is for the evaluation, unless another class has."""
    decided = sum(size for group, size in sizes.items() if taken.get(group))
    free = [group for group in sizes if group not in taken]
    rng.shuffle(free)
    chosen = _subset([sizes[group] for group in free], quota - decided, range(1 - decided, sizes.total() - decided))
    taken.update((group, place in chosen) for place, group in enumerate(free))


def _subset(sizes: list[int], target: int, allowed: range) -> set[int]:
    """Places of sizes whose sum is nearest to `target`, in `allowed` if any is; the first ones of several."""
    mask = (1 << (max(target, 0) + max(sizes, default=0) + 1)) - 1
    sums = [1]  # bit s of the n-th: some of the first n sizes have the sum s
    for size in sizes:
        sums.append((sums[-1] | sums[-1] << size) & mask)
    reached = [total for total in range(sums[-1].bit_length()) if sums[-1] >> total & 1]
    left = min(reached, key=lambda total: (total not in allowed, abs(total - target)))
    chosen = set()
    for place in reversed(range(len(sizes))):
        if not sums[place] >> left & 1:
            chosen.add(place)
            left -= sizes[place]
    return chosen
