"""Choose the variant to ship: the best one within the budget, and for every other one why it is not."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stages.contracts import paths, predictions
from stages.contracts.variant import BASELINE
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.params import document
from stages.params.document import Budget, Params
from stages.reporting import table
from stages.statistics.latency import calls_needed
from stages.statistics.paired import MOST_IMAGES, Change, images_needed
from stages.tracking import store

Record = dict[str, Any]

# The excess over a limit that the measurements cannot decide.
UNDECIDED = math.inf
SELECTED, CANNOT_TELL, NOTHING = "selected", "cannot tell", "nothing within budget"


@dataclass(frozen=True)
class Miss:
    """One limit that a variant is not known to keep; `excess` is the share of it that it is over."""

    reason: str
    excess: float = UNDECIDED


@dataclass(frozen=True)
class Drop:
    """What the images tell of a variant's drop against `budget.max_top1_drop`."""

    verdict: str | None
    images_needed: int | None = None


def judge_drop(row: Record, limit: float | None) -> Drop:
    """Non-inferiority: `within` or `exceeds` only where the whole score interval lies on that side of the limit."""
    if limit is None or row["top1"] is None:
        return Drop(None)
    if row["variant"] == BASELINE.name:
        return Drop("within")
    change = row["change"]
    if change is None:
        return Drop("cannot tell")
    low, high = change["drop_ci95"]
    if high <= limit:
        return Drop("within")
    if low > limit:
        return Drop("exceeds")
    return Drop("cannot tell", images_needed(change["lost"], change["gained"], change["images"], limit))


def misses(row: Record, drop: Drop, budget: Budget, p99_size: str) -> list[Miss]:
    """Every limit of the budget that this variant does not keep."""
    found = [_drop_miss(row, drop, budget.max_top1_drop), _p99_miss(row, p99_size, budget.max_p99_ms)]
    found += [
        _bytes_miss("size on disk", row["size_bytes"], budget.max_size_bytes),
        _bytes_miss("peak memory", row["peak_memory_bytes"], budget.max_peak_memory_bytes),
    ]
    return [miss for miss in found if miss]


def _drop_miss(row: Record, drop: Drop, limit: float | None) -> Miss | None:
    if limit is None or drop.verdict in (None, "within"):
        return None
    if row["change"] is None:
        return Miss(f"its top-1 drop is unknown, since {BASELINE.name} answered other images or none")
    change = row["change"]
    low, high = (100 * end for end in change["drop_ci95"])
    seen = f"top-1 drop of {100 * change['drop']:.2f} points [{low:.2f}, {high:.2f}]"
    if drop.verdict == "exceeds":
        return Miss(f"{seen} exceeds {100 * limit:g}", (change["drop"] - limit) / max(limit, 0.01))
    more = f"about {drop.images_needed or MOST_IMAGES:,}{'' if drop.images_needed else ' and more'} would be needed"
    return Miss(f"cannot tell with {change['images']} images whether its {seen} exceeds {100 * limit:g}: {more}")


def _p99_miss(row: Record, size: str, limit: float | None) -> Miss | None:
    if limit is None:
        return None
    latency = row["latency"][size]
    if latency["p99_ms"] is None:
        needed = f"{latency['samples']} calls; it takes {calls_needed(0.99)} (benchmark.min_samples)"
        return Miss(f"p99 at batch {size} cannot be quoted from {needed}")
    low, high = latency["p99_ci95_ms"]
    if high is not None and high <= limit:
        return None
    ends = f"[{'?' if low is None else f'{low:.3g}'}, {'?' if high is None else f'{high:.3g}'}]"
    seen = f"p99 of {latency['p99_ms']:.3g} ms {ends} at batch {size}"
    if low is not None and low > limit:
        return Miss(f"{seen} exceeds {limit:g}", latency["p99_ms"] / limit - 1)
    return Miss(f"cannot tell with {latency['samples']} calls whether its {seen} exceeds {limit:g}")


def _bytes_miss(what: str, value: int, limit: int | None) -> Miss | None:
    if limit is None or value <= limit:
        return None
    return Miss(f"{what} of {value / 1e6:.1f} MB exceeds {limit / 1e6:g}", value / limit - 1)


def cost(row: Record, objective: str, size: str) -> float:
    """The less the better."""
    if objective == "latency":
        return float(row["latency"][size]["p50_ms"])
    if objective == "throughput":
        return -max(float(batch["throughput_ips"]) for batch in row["latency"].values())
    return float(row["size_bytes"]) if objective == "size" else -float(row["top1"])


def figure(row: Record, objective: str, size: str) -> str:
    """What `cost` compares, for a person."""
    value = abs(cost(row, objective, size))
    if objective == "latency":
        return f"p50 of {value:.3g} ms at batch {size}"
    if objective == "throughput":
        return f"{value:,.0f} images/s"
    return f"{value / 1e6:.1f} MB" if objective == "size" else f"top-1 of {100 * value:.2f} %"


def pareto(rows: Sequence[Record], size: str) -> list[str]:
    """Variants that no other beats in one of top-1, p50 and size without losing in another."""
    points = {r["variant"]: (-r["top1"], r["latency"][size]["p50_ms"], r["size_bytes"]) for r in rows}

    def beaten(own: tuple[float, ...]) -> bool:
        return any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in points.values())

    return [name for name, point in points.items() if not beaten(point)]


def fingerprint(setting: Params) -> str:
    """Of all parameters but where the results are logged: a choice holds for no others."""
    return store.digest({name: value for name, value in asdict(setting).items() if name != "tracking"})


def asked(setting: Params) -> Record:
    """The question: what is best, and within which limits."""
    smallest = setting.benchmark.batch_sizes[0]
    return {
        "objective": setting.select.objective,
        "batch_size": setting.select.batch_size or smallest,
        "budget": asdict(setting.budget) | {"p99_batch_size": setting.budget.p99_batch_size or smallest},
    }


def select(summary: Record, setting: Params) -> Record:
    """All of selection.json."""
    question = asked(setting)
    budget, objective, size = setting.budget, question["objective"], str(question["batch_size"])
    p99_size = str(question["budget"]["p99_batch_size"])
    measured = [row for row in summary["rows"] if row["status"] == "ok"]
    # Speed and size break ties, which 20 images make often.
    measured.sort(key=lambda row: (cost(row, objective, size), row["latency"][size]["p50_ms"], row["size_bytes"]))
    drops = {row["variant"]: judge_drop(row, budget.max_top1_drop) for row in measured}
    missed = {row["variant"]: misses(row, drops[row["variant"]], budget, p99_size) for row in measured}
    eligible = [row for row in measured if not missed[row["variant"]]]
    winner = eligible[0] if eligible else None
    rivals = [row["variant"] for row in eligible[1:] if overlap(row, eligible[0], objective, size)]
    limited = any(limit is not None for name, limit in question["budget"].items() if name.startswith("max_"))
    scope = "within budget" if limited else "measured, as no budget is set"
    outcome, sentence = _outcome(measured, missed, winner, scope, lambda row: figure(row, objective, size))
    return {
        "params": fingerprint(setting),
        **question,
        "outcome": outcome,
        "sentence": sentence + _doubts(winner, rivals, objective),
        "winner": winner and winner["variant"],
        "rivals": rivals,
        "nearest_miss": None if winner else _nearest(missed),
        "pareto": pareto(measured, size),
        "variants": {
            row["variant"]: {
                "eligible": not missed.get(row["variant"], [row["reason"]]),
                **asdict(drops.get(row["variant"], Drop(None))),
                "reason": _reason(row, missed, winner, rivals, lambda row: figure(row, objective, size)),
            }
            for row in summary["rows"]
        },
    }


def _reason(
    row: Record,
    missed: dict[str, list[Miss]],
    winner: Record | None,
    rivals: Sequence[str],
    told: Callable[[Record], str],
) -> str | None:
    """Why a variant was not chosen."""
    name = row["variant"]
    if name not in missed:
        return f"{row['status']}: {row['reason']}"
    if missed[name]:
        return _joined(missed[name])
    if winner is None or row is winner:
        return None
    unclear = ", though the measurements cannot tell them apart" if name in rivals else ""
    return f"{told(row)} against the {told(winner)} of {winner['variant']}{unclear}"


def _joined(missed: Sequence[Miss]) -> str:
    return "; ".join(miss.reason for miss in missed)


def overlap(row: Record, other: Record, objective: str, size: str) -> bool:
    """Whether the measurements cannot tell which of two is better; images/s and sizes have no intervals."""
    if objective == "top1":
        low, high = _paired_drop(row, other)
        return low <= 0 <= high
    if objective != "latency":
        return False
    (low, high), (other_low, other_high) = (r["latency"][size]["p50_ci95_ms"] for r in (row, other))
    return _end(low, 0) <= _end(other_high, math.inf) and _end(other_low, 0) <= _end(high, math.inf)


def _paired_drop(row: Record, other: Record) -> tuple[float, float]:
    """Score interval of the difference in top-1 on the same images, which is narrower than that of two shares."""
    answers = [predictions.read(paths.record(r["variant"], "predictions.csv")) for r in (row, other)]
    images = [[answer.file for answer in found] for found in answers]
    if images[0] != images[1] or not images[0]:
        names = f"{row['variant']} and {other['variant']}"
        raise PipelineError(f"the predictions of {names} are not of the same images: run `make repro` again")
    return Change.between(*answers).drop_ci95


def _end(value: float | None, unbounded: float) -> float:
    return unbounded if value is None else value


def _doubts(winner: Record | None, rivals: Sequence[str], objective: str) -> str:
    """What a reader of the choice must know, as further sentences."""
    if winner is None:
        return ""
    doubtful = table.status(winner).removeprefix("ok").lstrip(", ")
    alike = f"{winner['variant']} from {', '.join(rivals)}"
    found = (
        f" The measurements cannot tell {alike} in {'p50' if objective == 'latency' else 'top-1'}." if rivals else ""
    )
    return found + (f" The measurement of {winner['variant']} is doubtful: {doubtful}." if doubtful else "")


def _nearest(missed: dict[str, list[Miss]]) -> Record | None:
    """The variant whose largest excess is the smallest, one that cannot be told last."""
    if not missed:
        return None
    name = min(missed, key=lambda name: max(miss.excess for miss in missed[name]))
    return {"variant": name, "reason": _joined(missed[name])}


def _outcome(
    measured: Sequence[Record],
    missed: dict[str, list[Miss]],
    winner: Record | None,
    scope: str,
    told: Callable[[Record], str],
) -> tuple[str, str]:
    """How the choice ended, and the sentence that says so."""
    better = measured[: measured.index(winner)] if winner else measured
    doubtful = next((r for r in better if all(miss.excess == UNDECIDED for miss in missed[r["variant"]])), None)
    choice = f"{winner['variant']} ({told(winner)})" if winner else "no variant"
    if doubtful:
        return CANNOT_TELL, (
            f"{doubtful['variant']} ({told(doubtful)}) may be the better choice, "
            f"but: {_joined(missed[doubtful['variant']])}. "
            f"Known to be within budget: {choice}."
        )
    if winner:
        return SELECTED, f"Ship {choice}, the best of {sum(not found for found in missed.values())} {scope}."
    nearest = _nearest(missed)
    near = f"; the nearest is {nearest['variant']}: {nearest['reason']}" if nearest else ", for none could be measured"
    return NOTHING, f"No variant is within budget{near}."


def main() -> None:
    """Read params and the summary, choose, and write selection.json; no choice is an answer too, and no failure."""
    setting = document.load()
    files.write_json(paths.SELECTION, select(files.read_json(paths.SUMMARY), setting))


if __name__ == "__main__":
    errors.run(main)
