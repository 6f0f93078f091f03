"""The sentences for a choice."""

from stages.contracts.row import Row
from stages.contracts.selection import Limits, Objective
from stages.contracts.variant import BASELINE
from stages.selection.budget import UNDECIDED, Measured, Miss, Standing
from stages.selection.choice import Choice, cost
from stages.statistics.doubts import words
from stages.statistics.latency import calls_needed
from stages.statistics.paired import MOST_IMAGES


def sentence(choice: Choice) -> str:
    """What was chosen and why, with what a reader must know about it."""
    return _outcome(choice) + _rivals(choice) + _doubts(choice.winner)


def figure(variant: Measured, objective: Objective, batch_size: int) -> str:
    """What the objective compares."""
    value = abs(cost(variant, objective))
    figures: dict[Objective, str] = {
        "latency": f"p50 of {value:.3g} ms at batch {batch_size}",
        "throughput": f"{value:,.0f} images/s",
        "size": f"{value / 1e6:.1f} MB",
        "top1": f"top-1 of {100 * value:.2f} %",
    }
    return figures[objective]


def reason(row: Row, choice: Choice) -> str | None:
    """Why a variant was not chosen; None for the winner, and where there is none."""
    standing, winner = choice.standing(row.name), choice.winner
    if standing is None:
        return f"{row.status.state}: {row.status.explanation}"
    if standing.misses:
        return misses(standing, choice.question.limits)
    if winner is None or row.name == winner.name:
        return None
    unclear = ", though the measurements cannot tell them apart" if row.name in choice.rivals else ""
    return f"{_figure(standing.measured, choice)} against the {_figure(winner, choice)} of {winner.name}{unclear}"


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
    low, high = (100 * end for end in change.drop_ci95)
    drop = f"top-1 drop of {100 * change.drop:.2f} points [{low:.2f}, {high:.2f}]"
    if standing.verdict == "exceeds":
        return f"{drop} exceeds {100 * limit:g}"
    needed = standing.images_needed
    more = f"about {needed or MOST_IMAGES:,}{'' if needed else ' and more'} would be needed"
    return f"cannot tell with {change.images} images whether its {drop} exceeds {100 * limit:g}: {more}"


def _p99(miss: Miss, variant: Measured, limits: Limits) -> str:
    latency, size = variant.p99, limits.p99_batch_size
    if latency.p99_ms is None:
        calls = f"{latency.samples} calls; it takes {calls_needed(0.99)} (benchmark.min_samples)"
        return f"p99 at batch {size} cannot be quoted from {calls}"
    low, high = ("?" if end is None else f"{end:.3g}" for end in latency.p99_ci95_ms)
    p99 = f"p99 of {latency.p99_ms:.3g} ms [{low}, {high}] at batch {size}"
    if miss.excess == UNDECIDED:
        return f"cannot tell with {latency.samples} calls whether its {p99} exceeds {limits.max_p99_ms:g}"
    return f"{p99} exceeds {limits.max_p99_ms:g}"


def _bytes(name: str, value: int, limit: int | None) -> str:
    return f"{name} of {value / 1e6:.1f} MB exceeds {(limit or 0) / 1e6:g}"


def _figure(variant: Measured, choice: Choice) -> str:
    return figure(variant, choice.question.objective, choice.question.batch_size)


def _outcome(choice: Choice) -> str:
    winner, doubtful = choice.winner, choice.doubtful
    best = f"{winner.name} ({_figure(winner, choice)})" if winner else "no variant"
    if doubtful:
        return (
            f"{doubtful.measured.name} ({_figure(doubtful.measured, choice)}) may be the better choice, but: "
            f"{misses(doubtful, choice.question.limits)}. Known to be within budget: {best}."
        )
    if winner:
        count = sum(standing.eligible for standing in choice.standings)
        scope = "within budget" if choice.question.limits.any else "measured, as no budget is set"
        return f"Ship {best}, the best of {count} {scope}."
    return f"No variant is within budget{_nearest(choice)}."


def _nearest(choice: Choice) -> str:
    if choice.nearest is None:
        return ", for none could be measured"
    return f"; the nearest is {choice.nearest.measured.name}: {misses(choice.nearest, choice.question.limits)}"


def _rivals(choice: Choice) -> str:
    if not choice.winner or not choice.rivals:
        return ""
    figures = "p50" if choice.question.objective == "latency" else "top-1"
    return f" The measurements cannot tell {choice.winner.name} from {', '.join(choice.rivals)} in {figures}."


def _doubts(winner: Measured | None) -> str:
    if not winner or not winner.doubts:
        return ""
    return f" The measurement of {winner.name} is doubtful: {', '.join(words(winner.doubts))}."
