"""Near duplicates among images: perceptual hashes, confirmed by the correlation of pixels."""

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.data import decode
from stages.data.image_file import ImageFile, examine

# Near duplicates differ in at most so many of the 256 bits of their perceptual hashes. Of 400 different images the
# nearest two differ in 92. Of their copies all in JPEG of quality 10, at a quarter of the size or mirrored are found,
# 98 % of those cropped by 2 %, 18 % by 5 %. Of 5,000 handwritten digits 53 are taken for copies, 3 in a group at most;
# with 48 bits it would be 85 % of the crops by 5 %, but a seventh of the digits, and 130 of them in one group.
BITS = 256
DISTANCE = 32
# What hashes call alike is compared once more by the correlation of its pixels in colour, which hashes do not know. The
# images reach 0.82 among each other; 92 % of copies 1.5 times as bright and 75 % of grey ones pass.
CORRELATION = 0.85
HASH_SIDE, SMALL_SIDE, LOOK_SIDE = 16, 64, 16
# Rows compared at once: 50,000 images take 0.2 GB, and 0.9 GB where all are alike.
BLOCK = 128

Signs = npt.NDArray[np.float32]
Look = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
Pairs = tuple[Places, Places]


def near_duplicates(images: list[ImageFile]) -> list[int]:
    """Group number of each image: copies that were compressed, scaled, brightened or mirrored, and chains of them.

    Every pair is compared, so none within DISTANCE is missed. Crops of more than 2 % and turned copies are not found.
    """
    if not images:
        return []
    features = examine(images, _features, "comparing images")
    signs, mirrored, looks = (np.stack(column) for column in zip(*features, strict=True))
    groups = np.arange(len(images))
    for start in range(0, len(images), BLOCK):
        groups = _merge(groups, *_alike(signs, signs, looks, looks, groups, start))
        groups = _merge(groups, *_alike(signs, mirrored, looks, looks[:, :, ::-1], groups, start))
    return [int(group) for group in groups]


def _features(image: ImageFile) -> tuple[Signs, Signs, Look]:
    """Hash of the image and of its mirror image, -1 or 1 [BITS] each, and its look [LOOK_SIDE, LOOK_SIDE, 3]."""
    small = decode.decode(image.path).resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.LANCZOS)
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
