"""The result table that `make repro` prints and summary.md keeps."""

from typing import Any

from stages.common import variants

Record = dict[str, Any]


def markdown(summary: Record) -> str:
    """The result table as Markdown that also reads well in a terminal."""
    rows = summary["rows"]
    sizes = sorted({int(size) for r in rows for size in r["latency"] or {}})
    baseline = next((r for r in rows if r["variant"] == variants.BASELINE), None)
    header = ["variant", "status", "top-1 % [95 % CI]", "top-5 %", "agreement %"]
    header += [f"p50 ms, batch {size}" for size in sizes] + [f"p99 ms, batch {size}" for size in sizes[:1]]
    header += [f"speed-up, batch {size}" for size in sizes[:1]] + ["size MB", "peak memory MB"]
    cells = [header] + [_cells(r, sizes, baseline) for r in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = [_line(line, widths) for line in cells]
    lines.insert(
        1,
        "|" + "|".join("-" * (width + 2) if i < 2 else "-" * (width + 1) + ":" for i, width in enumerate(widths)) + "|",
    )
    return "\n".join([_title(summary), "", *lines, *_notes(rows), ""])


def _title(summary: Record) -> str:
    machine = summary["environment"]
    place = machine["gpus"][0]["name"] if machine["gpus"] else f"{machine['cpu']}, {machine['threads']} threads"
    return f"{summary['model']['name']} on {summary['evaluation']['images']} images ({place})"


def _cells(r: Record, sizes: list[int], baseline: Record | None) -> list[str]:
    def number(value: float | None, scale: float = 1, digits: int = 1) -> str:
        return "" if value is None else f"{value * scale:.{digits}f}"

    def latency(result: Record, key: str, size: int) -> float | None:
        return ((result["latency"] or {}).get(str(size)) or {}).get(key)

    def speed_up(size: int) -> str:
        ours, theirs = latency(r, "p50_ms", size), latency(baseline, "p50_ms", size) if baseline else None
        return f"{theirs / ours:.2f}x" if ours and theirs else ""

    interval = " [{:.1f}, {:.1f}]".format(*(100 * end for end in r["top1_ci95"])) if r["top1_ci95"] else ""
    return [
        r["variant"],
        r["status"],
        number(r["top1"], 100) + interval,
        number(r["top5"], 100),
        number(r["agreement"], 100),
        *(number(latency(r, "p50_ms", size), digits=2) for size in sizes),
        *(number(latency(r, "p99_ms", size), digits=2) for size in sizes[:1]),
        *(speed_up(size) for size in sizes[:1]),
        number(r["size_bytes"], 1e-6),
        number(r["peak_memory_bytes"], 1e-6, 0),
    ]


def _line(cells: list[str], widths: list[int]) -> str:
    aligned = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(aligned) + " |"


def _notes(rows: list[Record]) -> list[str]:
    """Why rows are empty; variants with one reason share a line."""
    reasons: dict[str, list[str]] = {}
    for r in rows:
        if r["reason"]:
            reasons.setdefault(f"{r['status']}: {r['reason']}", []).append(r["variant"])
    return [""] * bool(reasons) + [f"- {', '.join(names)} {reason}" for reason, names in reasons.items()]
