"""The result table that `make repro` prints and summary.md keeps."""

from typing import Any, NamedTuple

from stages.contracts.variant import BASELINE, Variant
from stages.statistics.latency import STEADY_CV
from stages.statistics.paired import points_won

Record = dict[str, Any]

# Below these, averages over classes are more of a lottery than of a measurement.
FEWEST_CLASSES = 2
FEWEST_IMAGES_PER_CLASS = 5
GPU_MEMORY = ("GPU memory MB", "GPU peak MB")


class Section(NamedTuple):
    """A further table: its header and its lines, of which the first columns are words."""

    name: str
    texts: int
    cells: list[list[str]]


def markdown(summary: Record) -> str:
    """The result table as Markdown that also reads well in a terminal."""
    rows = summary["rows"]
    sizes, baseline = batch_sizes(rows), _baseline(summary)
    header = ["variant", "status", "top-1 % [95 % CI]", "drop, points [95 % CI]", "agreement %"]
    header += [f"p50 ms, batch {size}" for size in sizes] + [f"p90 ms, batch {size}" for size in sizes[:1]]
    header += [f"speed-up, batch {size}" for size in sizes[:1]] + ["size MB", "peak memory MB"]
    lines = grid([header] + [_cells(r, sizes, baseline) for r in rows], texts=2)
    more = [*_averages(summary), *_proofs(rows), *_listed(notes(rows)), *_others(summary)]
    return "\n".join([title(summary), "", *lines, *more, ""])


def batch_sizes(rows: list[Record]) -> list[int]:
    """Those that any variant was timed with."""
    return sorted({int(size) for r in rows for size in r["latency"] or {}})


def _baseline(measured: Record) -> Record | None:
    return next((r for r in measured["rows"] if r["variant"] == BASELINE.name), None)


def grid(cells: list[list[str]], texts: int) -> list[str]:
    """Lines of a table with its header; the first `texts` columns are words, the others numbers."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    rule = ["-" * (width + 2) if i < texts else "-" * (width + 1) + ":" for i, width in enumerate(widths)]
    header, *body = [_line(line, widths, texts) for line in cells]
    return [header, f"|{'|'.join(rule)}|", *body]


def title(summary: Record) -> str:
    """What was measured, on what."""
    images, place = summary["evaluation"]["images"], machine(summary["environment"])
    return f"{summary['model']['name']} on {images} images ({place})"


def machine(environment: Record) -> str:
    """What the model ran on, in a few words: the first GPU, which is the one that is used."""
    if environment["gpus"]:
        return str(environment["gpus"][0]["name"])
    return f"{environment['cpu']}, {environment['threads']} threads"


def number(value: float | None, scale: float = 1, digits: int = 1) -> str:
    """A cell of a table; empty for None."""
    return "" if value is None else f"{value * scale:.{digits}f}"


def times(ratio: float | None) -> str:
    """A speed-up as a cell."""
    return f"{ratio:.2f}x" if ratio else ""


def _cells(r: Record, sizes: list[int], baseline: Record | None) -> list[str]:
    def interval(ends: list[float] | None) -> str:
        return " [{:.1f}, {:.1f}]".format(*(100 * end for end in ends)) if ends else ""

    change = r["change"] or {}
    return [
        r["variant"],
        status(r),
        number(r["top1"], 100) + interval(r["top1_ci95"]),
        number(change.get("drop"), 100) + interval(change.get("drop_ci95")),
        number(r["agreement"], 100),
        *(number(batch(r, size).get("p50_ms"), digits=2) for size in sizes),
        *(number(batch(r, size).get("p90_ms"), digits=2) for size in sizes[:1]),
        *(times(speed_up(r, baseline, size)) for size in sizes[:1]),
        number(r["size_bytes"], 1e-6),
        number(r["peak_memory_bytes"], 1e-6, 0),
    ]


def batch(r: Record, size: int | str) -> Record:
    """Latency figures of a variant at a batch size; empty where there are none."""
    return (r["latency"] or {}).get(str(size)) or {}


def speed_up(r: Record, baseline: Record | None, size: int | str) -> float | None:
    """How many times as fast as the baseline; None where either was not timed."""
    ours, theirs = batch(r, size).get("p50_ms"), batch(baseline, size).get("p50_ms") if baseline else None
    return theirs / ours if ours and theirs else None


def _line(cells: list[str], widths: list[int], texts: int) -> str:
    aligned = [
        cell.ljust(width) if i < texts else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "| " + " | ".join(aligned) + " |"


def _averages(summary: Record) -> list[str]:
    """Precision, recall and F1 over the classes; nothing where there are too few images of each."""
    images, classes = summary["evaluation"]["images"], summary["evaluation"]["classes"]
    done = [r for r in summary["rows"] if r["macro_f1"] is not None]
    if not done or classes < FEWEST_CLASSES or images < classes * FEWEST_IMAGES_PER_CLASS:
        return []
    keys = ("top1", "macro_precision", "macro_recall", "macro_f1", "weighted_f1", "ece")
    header = ["variant", "top-1 %", "macro precision %", "macro recall %", "macro F1 %", "weighted F1 %", "ECE %"]
    return ["", *grid([header] + [[r["variant"], *(f"{100 * r[key]:.1f}" for key in keys)] for r in done], texts=1)]


def _proofs(rows: list[Record]) -> list[str]:
    return [line for proof in proofs(rows) for line in ("", *grid(proof.cells, proof.texts))]


def proofs(rows: list[Record]) -> list[Section]:
    """What TensorRT did, in TensorFlow's graphs and without TensorFlow; nothing where no engine was built."""
    done = [r for r in rows if r["status"] == "ok"]
    converted = [r for r in done if "graph_bytes" in r["details"]]
    native = [r for r in done if "form" in r["details"]]
    found = []
    if any("engine_ops" in r["details"] for r in converted):
        found.append(Section("TensorFlow's graphs with TensorRT's engines in them", 5, _conversions(converted)))
    return found + ([Section("Engines without TensorFlow", 4, _engines(native))] if native else [])


def _conversions(rows: list[Record]) -> list[list[str]]:
    """What TensorRT took over and what it costs on disk, beside the SavedModel."""
    header = ["variant", "TF32", "TensorRT linked", "TensorRT loaded", "outside the engines", "engine ops"]
    header += ["nodes in engines %", "convert s", "build s", "variables MB", "graph MB", "engines MB", *GPU_MEMORY]
    return [header] + [_conversion(r) for r in rows]


def _conversion(r: Record) -> list[str]:
    details = r["details"]
    engines = "engine_ops" in details
    outside = ", ".join(f"{count} {op}" for op, count in details["ops_outside"].items()) if engines else ""
    return [
        r["variant"],
        "on" if details["tf32"] else "off",
        details.get("tensorrt_linked", ""),
        details.get("tensorrt_loaded", ""),
        outside,
        str(details["engine_ops"]) if engines else "",
        f"{100 * details['share_in_engines']:.1f}" if engines else "",
        number(r["convert_s"], digits=0),
        f"{sum(details['engine_build_s'].values()):.0f}" if engines else "",
        *(f"{details[f'{part}_bytes'] / 1e6:.1f}" for part in ("variables", "graph", "engine")),
        *_gpu_memory(details),
    ]


def _gpu_memory(details: Record) -> list[str]:
    """Of the whole process, CUDA's own included, and the most that the runtime allocated."""
    process = (details["gpu"] or {}).get("process_memory_bytes")
    return [number(process, 1e-6, 0), number(details["gpu_peak_memory_bytes"], 1e-6, 0)]


def _engines(rows: list[Record]) -> list[list[str]]:
    """What native engines compute in, and where the GPU's time goes at the largest batch size."""
    largest = max(int(size) for r in rows for size in r["latency"])
    header = ["variant", "TF32", "built by", "engines for batch", "layers INT8 / FP16 / FP32"]
    header += ["convert s", "build s", "engines MB"]
    header += [f"{part} ms, batch {largest}" for part in ("copy in", "compute", "copy out")] + [*GPU_MEMORY]
    return [header] + [_engine(r, largest) for r in rows]


def layers(details: Record) -> str:
    """Layers of native engines in INT8, FP16 and FP32."""
    return " / ".join(str(details[f"{name}_layers"]) for name in ("int8", "fp16", "fp32"))


def _engine(r: Record, size: int) -> list[str]:
    details, parts = r["details"], (r["parts_ms"] or {}).get(str(size)) or {}
    return [
        r["variant"],
        "on" if details["tf32"] else "off",
        details["tensorrt"],
        ", ".join(details["engines"]),
        layers(details),
        number(r["convert_s"], digits=0),
        f"{sum(details['engine_build_s'].values()):.0f}",
        f"{details['engine_bytes'] / 1e6:.1f}",
        *(f"{parts[name]:.3f}" if parts else "" for name in ("input_copy", "compute", "output_copy")),
        *_gpu_memory(details),
    ]


def status(r: Record) -> str:
    """The status, with what makes a measurement doubtful."""
    return ", ".join([r["status"], *doubts(r)])


def doubts(r: Record) -> list[str]:
    """What makes a measurement doubtful, in a word each."""
    gpu = r["details"]["gpu"] or {}
    found = {
        "throttled": gpu.get("throttled_states"),
        "shared GPU": gpu.get("other_processes"),
        "unsteady": _unsteady(r),
    }
    return [doubt for doubt, cause in found.items() if cause]


def guessing(found: Record) -> str:
    """What is wrong with a model at chance, as the rest of a sentence that starts with its name."""
    scored, chance = found["correct"] / found["images"], found["chance"]
    return (
        f"is no better than chance: its top-1 is {100 * scored:.1f} % of {found['images']:,} images, and always "
        f"answering the most frequent label gets {100 * chance:.1f} %; "
        "the usual causes are preprocessing (scale, mean, channel order), labels in another order and random weights"
    )


def _kept_in_fp32(r: Record) -> list[str]:
    """Layers whose weights are larger than the variant's precision says, by engine."""
    if r["precision"] == "fp32":
        return []
    kept = {key: engine["fp32_weights"] for key, engine in r["details"]["engines"].items() if engine["fp32_weights"]}
    return [f"keeps FP32 weights in the engine for batch {key}: {', '.join(names)}" for key, names in kept.items()]


def _unsteady(r: Record) -> dict[str, float]:
    """Batch sizes whose median moves too much between repeats, with its coefficient of variation."""
    found = {size: batch["repeat_cv"] for size, batch in (r["latency"] or {}).items()}
    return {size: cv for size, cv in found.items() if cv is not None and cv > STEADY_CV}


def notes(rows: list[Record], place: str = "") -> list[str]:
    """Why rows are empty or doubtful; variants with one reason share a line."""
    reasons: dict[str, list[str]] = {}
    for r in rows:
        for reason in _reasons(r):
            reasons.setdefault(reason, []).append(r["variant"])
    return [f"{', '.join(names)}{place} {reason}" for reason, names in reasons.items()]


def _listed(sentences: list[str]) -> list[str]:
    return [""] * bool(sentences) + [f"- {sentence}" for sentence in sentences]


def gpu(other: Record) -> str:
    """Name of one of the other GPUs; Ray's where its driver does not tell."""
    gpus = other["environment"]["gpus"]
    return str(gpus[0]["name"] if gpus else other["gpu_model"])


def others(summary: Record) -> Section | None:
    """Every variant on the other GPUs of the cluster, each compared with the baseline there."""
    rows = [(gpu(other), r, _baseline(other)) for other in summary["other_gpus"] for r in other["rows"]]
    sizes = batch_sizes([r for _, r, _ in rows])
    header = ["GPU", "variant", "status", "top-1 %", *(f"p50 ms, batch {size}" for size in sizes)]
    header += [f"speed-up, batch {size}" for size in sizes[:1]] + [f"images/s, batch {size}" for size in sizes[-1:]]
    name = f"On other GPUs, with the speed-up against {BASELINE.name} on the same GPU"
    return Section(name, 3, [header] + [_other(*one, sizes) for one in rows]) if rows else None


def _other(name: str, r: Record, baseline: Record | None, sizes: list[int]) -> list[str]:
    return [
        name,
        r["variant"],
        status(r),
        number(r["top1"], 100),
        *(number(batch(r, size).get("p50_ms"), digits=2) for size in sizes),
        *(times(speed_up(r, baseline, size)) for size in sizes[:1]),
        *(number(batch(r, size).get("throughput_ips")) for size in sizes[-1:]),
    ]


def other_notes(summary: Record) -> list[str]:
    """The notes on the rows of the other GPUs."""
    return [note for other in summary["other_gpus"] for note in notes(other["rows"], f" on {gpu(other)}")]


def _others(summary: Record) -> list[str]:
    found = others(summary)
    return ["", f"{found.name}:", "", *grid(found.cells, found.texts), *_listed(other_notes(summary))] if found else []


def _won_back(r: Record) -> str:
    """Top-1 that quantisation-aware training won back, if it is known to differ; as what follows the variant's name."""
    points, (low, high) = points_won(r["change_from_int8"])
    before = Variant.parse(r["variant"]).post_training.name
    if low <= 0 <= high:
        return f"cannot be told from {before} in top-1: the difference is {points:+.2f} points [{low:.2f}, {high:.2f}]"
    if points < 0:
        return f"lost {-points:.2f} points [{-high:.2f}, {-low:.2f}] of top-1 against {before}"
    return f"won back {points:.2f} points [{low:.2f}, {high:.2f}] of top-1 against {before}"


def _reasons(r: Record) -> list[str]:
    gpu = r["details"]["gpu"] or {}
    found = [f"{r['status']}: {r['reason']}"] if r["reason"] else []
    found += [_won_back(r)] if r["change_from_int8"] else []
    found += [guessing(r["at_chance"])] if r["at_chance"] else []
    if r["status"] == "ok" and "form" in r["details"]:
        found += [f"has {r['details']['because']}", *_kept_in_fp32(r)]
    for cause, states in gpu.get("throttled_states", {}).items():
        found.append(f"throttled: a {cause} held the GPU's clocks down in {states} of {gpu['states']} blocks")
    if builds := r["details"].get("builds"):
        p50s, sizes = ([build[key] for build in builds] for key in ("p50_ms", "size_bytes"))
        spread = f"p50 {min(p50s):.2f} to {max(p50s):.2f} ms, {min(sizes) / 1e6:.2f} to {max(sizes) / 1e6:.2f} MB"
        different = len({build["model_sha256"] for build in builds})
        found.append(
            f"built {len(builds)} times: {spread}, {f'{different} different' if different > 1 else 'all alike'}"
        )
    for size, cv in _unsteady(r).items():
        found.append(f"unsteady: p50 at batch {size} varies by {cv:.1%} between repeats (at most {STEADY_CV:.1%})")
    if gpu.get("other_processes"):
        found.append(f"shared GPU: {gpu['other_processes']} other processes computed on it")
    return found
