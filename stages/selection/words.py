"""The sentences for a choice."""

from stages.contracts.row import Row
from stages.contracts.selection import Limits, Objective
from stages.contracts.variant import BASELINE
from stages.selection.budget import UNDECIDED, Measured, Miss, Standing
from stages.selection.choice import TIMED, Choice, cost
from stages.statistics.doubts import words
from stages.statistics.latency import calls_needed
from stages.statistics.paired import MOST_IMAGES

# Names that a headline has no room for.
MANY = 3
# What a float holds for certain.
MOST_DIGITS = 15


def headline(choice: Choice) -> str:
    """The decision in a few words."""
    if choice.void:
        return "No comparison means much yet"
    if choice.outcome == "cannot tell":
        return _too_close(choice)
    if choice.winner:
        doubt = _if_doubtful(choice.winner, "; its measurement is doubtful: {}")
        return f"Ship {choice.winner.name}{_tied(choice.rivals)}{doubt}"
    nearest = choice.nearest
    return f"None meets the budget; nearest is {nearest.measured.name}" if nearest else "No variant could be measured"


def sentence(choice: Choice) -> str:
    """What was chosen and why, with what a reader must know about it."""
    void = f"No comparison means much yet, since {choice.void}. " if choice.void else ""
    return void + _outcome(choice) + _rivals(choice) + _doubts(choice.winner)


def _tied(rivals: tuple[str, ...]) -> str:
    return f", a tie with {' and '.join(rivals) if len(rivals) < MANY else f'{len(rivals)} others'}" if rivals else ""


def _too_close(choice: Choice) -> str:
    """Between which variants, and what would tell."""
    unsure = choice.pick.unsure if choice.pick else None
    other = choice.doubtful.measured if choice.doubtful else unsure
    names = " or ".join(one.name for one in (other, choice.winner) if one)
    whether = names if choice.winner else f"{names} may be within the budget"
    return "; ".join([f"Too close to call: {whether}", *_tells(choice)])


def _tells(choice: Choice) -> list[str]:
    """How many images or calls would."""
    standing = choice.doubtful
    if standing is None:
        return [_images(choice.pick.images_needed if choice.pick else None)]
    limits = [miss.limit for miss in standing.misses]
    drop = "drop" in limits and standing.measured.accuracy.change
    return [_images(standing.images_needed)] * bool(drop) + ["more calls would tell"] * ("p99" in limits)


def _images(needed: int | None) -> str:
    return f"about {needed:,} images would tell" if needed else f"more than {MOST_IMAGES:,} images would tell"


def figure(variant: Measured, objective: Objective, batch_size: int, other: Measured | None = None) -> str:
    """What the objective compares, with the digits that tell it from another's."""
    value, beside = (abs(cost(one, objective)) for one in (variant, other or variant))
    figures: dict[Objective, str] = {
        "latency": f"p50 of {_apart('{:.{}g}', value, beside, 3)} ms at batch {batch_size}",
        "throughput": f"{_apart('{:,.{}f}', value, beside, 0)} images/s",
        "size": f"{_apart('{:.{}f}', value / 1e6, beside / 1e6, 1)} MB",
        "top1": f"top-1 of {_apart('{:.{}f}', 100 * value, 100 * beside, 2)} %",
    }
    return figures[objective]


def _apart(form: str, value: float, other: float, digits: int) -> str:
    """A value with so many digits, or with more where both would else look alike; `form` takes it and their number."""
    for more in range(digits, MOST_DIGITS):
        if form.format(value, more) != form.format(other, more):
            return form.format(value, more)
    return form.format(value, digits)


def reason(row: Row, choice: Choice) -> str | None:
    """Why a variant was not chosen; None for the winner, and where there is none."""
    standing, winner = choice.standing(row.name), choice.winner
    if standing is None:
        return f"{row.status.state}: {row.status.explanation}"
    if standing.misses:
        return misses(standing, choice.question.limits)
    if winner is None or row.name == winner.name:
        return None
    own = standing.measured
    if row.name not in choice.rivals:
        return f"{_figure(own, choice, winner)} against the {_figure(winner, choice, own)} of {winner.name}"
    figures = f"{_figure(own, choice)} against the {_figure(winner, choice)} of {winner.name}"
    return f"{figures}, though the measurements cannot tell them apart{_leaner(winner, [own], choice)}"


def _leaner(winner: Measured, others: list[Measured], choice: Choice) -> str:
    """What a tie was decided by; nothing where that was the figure itself."""
    timed = choice.question.objective in TIMED
    sure = [other for other in others if winner.doubts or not (timed and other.doubts)]
    if not sure:
        return f", and only the measurement of {winner.name} is beyond doubt"
    own = f", and {'of those beyond doubt ' * (len(sure) < len(others))}{winner.name}"
    if all(winner.size_bytes < other.size_bytes for other in sure):
        least = min(other.size_bytes for other in sure)
        return f"{own} is smaller ({_against('{:.{}g}', winner.size_bytes, least, 3)})"
    memories = [other.peak_memory_bytes for other in sure if other.size_bytes == winner.size_bytes]
    memory, least = winner.peak_memory_bytes, min(memories, default=0)
    return f"{own} needs less memory ({_against('{:,.{}f}', memory, least, 0)})" * (memory < least)


def _against(form: str, value: int, other: int, digits: int) -> str:
    """Two numbers of bytes."""
    own, others = value / 1e6, other / 1e6
    return f"{_apart(form, own, others, digits)} against {_apart(form, others, own, digits)} MB"


def misses(standing: Standing, limits: Limits) -> str:
    """Every limit that a variant is not known to keep."""
    return "; ".join(_miss(miss, standing, limits) for miss in standing.misses)


def _miss(miss: Miss, standing: Standing, limits: Limits) -> str:
    if miss.limit == "drop":
        return _drop(standing, limits.max_top1_drop or 0.0)
    if miss.limit == "p99":
        return _p99(miss, standing.measured, limits)
    if miss.limit == "size":
        return _bytes("size on disk", standing.measured.size_bytes, limits.max_size_bytes)
    return _bytes("peak memory", standing.measured.peak_memory_bytes, limits.max_peak_memory_bytes)


def _drop(standing: Standing, limit: float) -> str:
    change = standing.measured.accuracy.change
    if change is None:
        return f"its top-1 drop is unknown, since {BASELINE.name} answered other images or none"
    points, low, high = (_apart("{:.{}f}", 100 * end, 100 * limit, 2) for end in (change.drop, *change.drop_ci95))
    drop = f"top-1 drop of {points} points [{low}, {high}]"
    if standing.verdict == "exceeds":
        return f"{drop} exceeds {_limit(100 * limit)}"
    needed = standing.images_needed
    more = f"about {needed or MOST_IMAGES:,}{'' if needed else ' and more'} would be needed"
    return f"cannot tell with {change.images} images whether its {drop} exceeds {_limit(100 * limit)}: {more}"


def _p99(miss: Miss, variant: Measured, limits: Limits) -> str:
    latency, size = variant.p99, limits.p99_batch_size
    if latency.p99_ms is None:
        calls = f"{latency.samples} calls; it takes {calls_needed(0.99)} (benchmark.min_samples)"
        return f"p99 at batch {size} cannot be quoted from {calls}"
    limit = limits.max_p99_ms or 0.0
    ends = (latency.p99_ms, *latency.p99_ci95_ms)
    value, low, high = ("?" if end is None else _apart("{:.{}g}", end, limit, 3) for end in ends)
    p99 = f"p99 of {value} ms [{low}, {high}] at batch {size}"
    if miss.excess == UNDECIDED:
        return f"cannot tell with {latency.samples} calls whether its {p99} exceeds {_limit(limit)}"
    return f"{p99} exceeds {_limit(limit)}"


def _bytes(name: str, value: int, limit: int | None) -> str:
    most = (limit or 0) / 1e6
    return f"{name} of {_apart('{:.{}f}', value / 1e6, most, 1)} MB exceeds {_limit(most)}"


def _limit(value: float) -> str:
    """With all its digits, as a figure may be just above it."""
    return f"{value:.{MOST_DIGITS}g}"


def _figure(variant: Measured, choice: Choice, other: Measured | None = None) -> str:
    return figure(variant, choice.question.objective, choice.question.batch_size, other)


def _outcome(choice: Choice) -> str:
    winner, doubtful = choice.winner, choice.doubtful
    best = f"{winner.name} ({_figure(winner, choice)})" if winner else "no variant"
    if doubtful:
        return (
            f"Too close to call: {doubtful.measured.name} ({_figure(doubtful.measured, choice)}) would be chosen, but: "
            f"{misses(doubtful, choice.question.limits)}. Known to be within budget: {best}."
        )
    if winner and choice.outcome == "cannot tell":
        return f"{_too_close(choice)}. The best figure has {best}."
    if winner:
        count = sum(standing.eligible for standing in choice.standings)
        scope = "within budget" if choice.question.limits.any else "measured, as no budget is set"
        return f"{'The first is' if choice.void else 'Ship'} {best}, the best of {count} {scope}."
    if nearest := choice.nearest:
        missed = misses(nearest, choice.question.limits)
        return f"None meets the budget; the nearest is {nearest.measured.name}: {missed}."
    return "No variant could be measured."


def _rivals(choice: Choice) -> str:
    winner = choice.winner
    if winner is None or not choice.rivals:
        return ""
    figures = {"latency": "p50", "top1": "top-1"}.get(choice.question.objective, choice.question.objective)
    others = [standing.measured for name in choice.rivals if (standing := choice.standing(name))]
    names = ", ".join(choice.rivals)
    return f" The measurements cannot tell {winner.name} from {names} in {figures}{_leaner(winner, others, choice)}."


def _doubts(winner: Measured | None) -> str:
    return _if_doubtful(winner, f" The measurement of {winner.name} is doubtful: {{}}.") if winner else ""


def _if_doubtful(winner: Measured, sentence: str) -> str:
    return sentence.format(", ".join(words(winner.doubts))) if winner.doubts else ""
