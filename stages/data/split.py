"""Divide one set of photographs in two: stratified by class, seeded, and near duplicates on the same side."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.core.errors import PipelineError
from stages.data import decode
from stages.data.image_file import Photo, examine

# Near duplicates differ in at most so many of the 256 bits of their perceptual hashes. Of 400 different photographs the
# nearest two differ in 92. Of their copies all in JPEG of quality 10, at a quarter of the size or mirrored are found,
# 98 % of those cropped by 2 %, 18 % by 5 %. Of 5,000 handwritten digits 53 are taken for copies, 3 in a group at most;
# with 48 bits it would be 85 % of the crops by 5 %, but a seventh of the digits, and 130 of them in one group.
BITS = 256
DISTANCE = 32
# What hashes call alike is compared once more by the correlation of its pixels in colour, which hashes do not know. The
# photographs reach 0.82 among each other; 92 % of copies 1.5 times as bright and 75 % of grey ones pass.
CORRELATION = 0.85
HASH_SIDE, SMALL_SIDE, LOOK_SIDE = 16, 64, 16
# Rows compared at once: 50,000 images take 0.2 GB, and 0.9 GB where all are alike.
BLOCK = 128

Signs = npt.NDArray[np.float32]
Look = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Pairs = tuple[Places, Places]


def divide(photos: list[Photo], groups: Sequence[int], share: float, seed: int) -> tuple[list[Photo], list[Photo]]:
    """The rest, and `share` of each class for the evaluation, both in the order of their names.

    `groups` has a number for each photograph; those of one number stay together. Each class comes as near to its share
    as whole groups allow, and one of two groups or more is on both sides, unless another class in its groups decides.
    The order of `photos` does not matter. PipelineError if nothing is left for one side.
    """
    # scikit-learn's StratifiedShuffleSplit knows no groups, and its StratifiedGroupKFold gives no share but 1/k.
    ordered = sorted(zip(photos, groups, strict=True), key=lambda pair: pair[0].name)
    rng = random.Random(seed)
    sizes: dict[int | None, Counter[int]] = defaultdict(Counter)
    for photo, group in ordered:
        sizes[photo.label][group] += 1
    quotas = _quotas({label: size.total() for label, size in sizes.items()}, round(share * len(photos)), rng)
    taken: dict[int, bool] = {}
    for label in sorted(sizes, key=lambda label: len(sizes[label])):  # the fewer groups, the less choice
        _take(sizes[label], quotas[label], taken, rng)
    rest = [photo for photo, group in ordered if not taken[group]]
    evaluation = [photo for photo, group in ordered if taken[group]]
    if not rest or not evaluation:
        raise PipelineError(
            f"{len(photos)} images in {len(set(groups))} groups of near duplicates cannot be divided with "
            f"{share:g} of them on one side: add other images, or name two sources"
        )
    return rest, evaluation


def choose(photos: list[Photo], count: int, seed: int) -> list[Photo]:
    """`count` photographs of at least as many, of each class its share, in the order of their names."""
    rng = random.Random(seed)
    classes: dict[int | None, list[Photo]] = defaultdict(list)
    for photo in sorted(photos, key=lambda photo: photo.name):
        classes[photo.label].append(photo)
    quotas = _quotas({label: len(members) for label, members in classes.items()}, count, rng)
    chosen = [photo for label, members in classes.items() for photo in rng.sample(members, quotas[label])]
    return sorted(chosen, key=lambda photo: photo.name)


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


def _subset(sizes: list[int], target: int, wanted: range) -> set[int]:
    """Places of sizes whose sum is nearest to `target`, in `wanted` if any is; the first ones where several will do."""
    mask = (1 << (max(target, 0) + max(sizes, default=0) + 1)) - 1
    sums = [1]  # bit s of the n-th: some of the first n sizes have the sum s
    for size in sizes:
        sums.append((sums[-1] | sums[-1] << size) & mask)
    reached = [total for total in range(sums[-1].bit_length()) if sums[-1] >> total & 1]
    left = min(reached, key=lambda total: (total not in wanted, abs(total - target)))
    chosen = set()
    for place in reversed(range(len(sizes))):
        if not sums[place] >> left & 1:
            chosen.add(place)
            left -= sizes[place]
    return chosen


def near_duplicates(photos: list[Photo]) -> list[int]:
    """Group number of each photograph: copies that were compressed, scaled, brightened or mirrored, and chains of them.

    Every pair is compared, so none within DISTANCE is missed. Crops of more than 2 % and turned copies are not found.
    """
    if not photos:
        return []
    features = examine(photos, _features, "comparing images")
    signs, mirrored, looks = (np.stack(column) for column in zip(*features, strict=True))
    groups = np.arange(len(photos))
    for start in range(0, len(photos), BLOCK):
        groups = _merge(groups, *_alike(signs, signs, looks, looks, groups, start))
        groups = _merge(groups, *_alike(signs, mirrored, looks, looks[:, :, ::-1], groups, start))
    return [int(group) for group in groups]


def _features(photo: Photo) -> tuple[Signs, Signs, Look]:
    """Hash of the image and of its mirror image, -1 or 1 [BITS] each, and its look [LOOK_SIDE, LOOK_SIDE, 3]."""
    small = decode.decode(photo.path).resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.LANCZOS)
    turned = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    look = np.asarray(small.resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX))
    return _signs(small), _signs(turned), look


def _signs(image: Image.Image) -> Signs:
    import imagehash  # late, as SciPy below: they take a while, and most pipelines compare nothing

    return np.where(imagehash.phash(image, HASH_SIDE).hash.ravel(), np.float32(1), np.float32(-1))


def _alike(signs: Signs, others: Signs, looks: Look, other_looks: Look, groups: Places, start: int) -> Pairs:
    """Near duplicates that are in different groups: one from the block at `start`, the other from there on."""
    # The product of two hashes is the number of their bits that agree, less those that differ.
    one, other = (signs[start : start + BLOCK] @ others[start:].T >= BITS - 2 * DISTANCE).nonzero()
    apart = groups[start + one] != groups[start + other]
    one, other = start + one[apart], start + other[apart]
    (rows, row), (columns, column) = (np.unique(places, return_inverse=True) for places in (one, other))
    correlation = _centred(looks[rows]) @ _centred(other_looks[columns]).T
    alike = correlation[row, column] >= CORRELATION
    return one[alike], other[alike]


def _centred(looks: Look) -> Signs:
    """Looks as vectors [count, pixels] of length 1 and mean 0, so that their products are correlations."""
    vectors = looks.reshape(len(looks), LOOK_SIDE * LOOK_SIDE * 3).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    # An image of one colour has no correlation: it is like others of one colour and like nothing else.
    flat = np.float32(vectors.shape[1] ** -0.5)
    return np.where(length < 1, flat, vectors / np.maximum(length, 1))


def _merge(groups: Places, one: Places, other: Places) -> Places:
    """Groups joined wherever a pair has a foot in each."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first_of = np.unique(groups, return_index=True)[1]
    feet = np.concatenate([one, np.arange(len(groups))]), np.concatenate([other, first_of[groups]])
    graph = coo_matrix((np.ones(len(feet[0]), np.bool_), feet), (len(groups), len(groups)))
    joined: Places = connected_components(graph, directed=False)[1]
    return joined
