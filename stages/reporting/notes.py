"""The sentences below a table: why a row is empty or doubtful, and what its conversion tells."""

from collections.abc import Iterator, Sequence

from stages.contracts.conversion import Build
from stages.contracts.row import Accuracy, AtChance, Change, Doubt, Permuted, Row, Summary
from stages.reporting import figures
from stages.reporting.resizes import depends
from stages.statistics.doubts import words
from stages.statistics.latency import STEADY_CV

# Who took a part of the CPUs, by the kind of doubt.
CPU = {"busy CPU": "others took", "CPU quota": "a quota held back"}


def status(row: Row) -> str:
    """The status, with what makes the measurement doubtful in a word each, and how much of the CPUs was missing."""
    return ", ".join([row.status.state, *words(row.doubts)])


def notes(rows: Sequence[Row], classes: int, place: str = "") -> list[str]:
    """All sentences on these rows of a model of so many classes, `place` after the variants' names.

    Variants with one sentence share a line. First of all comes what is wrong with the classes, once for all devices.
    """
    found = [row.accuracy.permuted for row in rows if row.accuracy and row.accuracy.permuted and not place]
    names: dict[str, list[str]] = {}
    for row in rows:
        for sentence in _sentences(row, classes):
            names.setdefault(sentence, []).append(row.name)
    told = [f"{', '.join(variants)}{place} {sentence}" for sentence, variants in names.items()]
    return [*map(permuted, found), *told]


def prepared(summary: Summary) -> list[str]:
    """Whether its file was checked, what the model does to images itself, how many are turned, and what was done."""
    unchecked = "the model's file was opened unchecked, as model.trusted says: it may be a program"
    return [unchecked] * summary.model.trusted + [
        *(f"the model prepares images itself: {layer}" for layer in summary.model.inside),
        *_turned(summary),
    ]


def _turned(summary: Summary) -> list[str]:
    images, followed = summary.evaluation, summary.model.preprocessing.orientation
    done = "were turned" if followed else "were taken as they are stored"
    if not images.turned:
        return []
    return [
        f"{images.turned:,} of {images.images:,} evaluation images have an EXIF tag that turns them, and {done}: "
        "custom.orientation says whether the model was trained so"
    ]


def other_notes(summary: Summary) -> list[str]:
    """The sentences on the rows of other devices."""
    return [
        note
        for device in summary.others
        for note in notes(summary.on(device), summary.model.classes, f" on {figures.device_name(summary, device)}")
    ]


def _sentences(row: Row, classes: int) -> Iterator[str]:
    """Each as what follows the variant's name."""
    if row.status.explanation:
        yield f"{row.status.state}: {row.status.explanation}"
    if row.accuracy:
        yield from unsure(row.accuracy, row.variant.precision, classes)
    if row.accuracy and (found := depends(row.accuracy.resized)):
        yield found
    if row.accuracy and row.accuracy.change_from_int8:
        yield won_back(row.accuracy.change_from_int8, row.variant.post_training.name)
    if row.accuracy and row.accuracy.at_chance:
        yield at_chance(row.accuracy.at_chance)
    if proof := figures.proof(row):
        yield from proof.notes
    if row.conversion and row.conversion.builds:
        yield builds(row.conversion.builds)
    for doubt in row.doubts:
        if doubt.kind not in CPU:
            yield doubtful(doubt, row)
    for kind, by_whom in CPU.items():
        if shares := [doubt for doubt in row.doubts if doubt.kind == kind]:
            yield f"{kind}: {by_whom} {missing(shares)}"


def unsure(accuracy: Accuracy, precision: str, classes: int) -> Iterator[str]:
    """Images without an answer, and those on which no class is the best."""
    answered, images = accuracy.answered, accuracy.top1.images
    if answered.without:
        yield f"{answered.missing(images)}; they count as wrong"
    if answered.tied:
        step = "8 bits" if precision.startswith("int8") else "its answers"
        yield (
            f"gives several classes the first place on {answered.tied:,} of {images:,}: {step} cannot tell {classes:,} "
            "classes apart, and a tie counts as its share"
        )


def won_back(change: Change, before: str) -> str:
    """Top-1 that quantisation-aware training won back, if it is known to differ."""
    points, (low, high) = change.points_won, change.points_won_ci95
    if low <= 0 <= high:
        return f"cannot be told from {before} in top-1: the difference is {points:+.2f} points [{low:.2f}, {high:.2f}]"
    if points < 0:
        return f"lost {-points:.2f} points [{-high:.2f}, {-low:.2f}] of top-1 against {before}"
    return f"won back {points:.2f} points [{low:.2f}, {high:.2f}] of top-1 against {before}"


def permuted(found: Permuted) -> str:
    """That outputs are other classes than they were taken for, and what to do."""
    return (
        f"{found.moved:,} of {found.classes:,} classes are answered as another one throughout: name the classes in "
        "their order in custom.labels"
    )


def at_chance(guess: AtChance) -> str:
    """What is wrong with a model that is no better than chance."""
    return (
        f"is no better than chance: its top-1 is {100 * guess.correct / guess.images:.1f} % of {guess.images:,} "
        f"images, and always answering the most frequent label gets {100 * guess.chance:.1f} %; the usual causes are "
        "preprocessing (scale, mean, channel order), another resize than in training (custom.preset, method, "
        "orientation), labels in another order and random weights"
    )


def builds(made: Sequence[Build]) -> str:
    """How far builds of the same variant differ."""
    p50s, sizes = [build.p50_ms for build in made], [build.size_bytes / 1e6 for build in made]
    different = len({build.model_sha256 for build in made})
    return (
        f"built {len(made)} times: p50 {min(p50s):.2f} to {max(p50s):.2f} ms, {min(sizes):.2f} to {max(sizes):.2f} "
        f"MB, {f'{different} different' if different > 1 else 'all alike'}"
    )


def missing(shares: Sequence[Doubt]) -> str:
    """How much of the CPUs, by batch size."""
    return " and ".join(f"{100 * one.value:.0f} % of the CPUs at batch {one.batch_size}" for one in shares)


def doubtful(doubt: Doubt, row: Row) -> str:
    """What makes the measurement doubtful, by how much."""
    if doubt.kind == "throttled":
        states = f" of {row.gpu.states}" if row.gpu else ""
        return f"throttled: a {doubt.cause} held the GPU's clocks down in {doubt.value:.0f}{states} blocks"
    if doubt.kind == "shared GPU":
        return f"shared GPU: {doubt.value:.0f} other processes computed on it"
    return (
        f"unsteady: p50 at batch {doubt.batch_size} varies by {doubt.value:.1%} between repeats "
        f"(at most {STEADY_CV:.1%})"
    )
