"""Tables of what compilers did: what proves a variant's label, and what it costs on disk and in GPU memory."""

from collections.abc import Sequence

from stages.contracts.conversion import Proof, Scalar
from stages.contracts.row import Row
from stages.contracts.timing import PARTS
from stages.reporting import figures
from stages.reporting.format import number
from stages.reporting.grid import Cell, Section, lines

PRECISIONS = ("int8", "fp16", "fp32")
# Inside a TensorFlow graph, beside the graph that has no engine; and without TensorFlow.
GRAPHS, ENGINES = ("saved_model", "trt_ops"), ("engine_layers",)


def proofs(rows: Sequence[Row]) -> list[Section]:
    """What TensorRT did, in TensorFlow's graphs and without TensorFlow; nothing where no engine was built."""
    graphs, engines = _of(rows, GRAPHS), _of(rows, ENGINES)
    sections = []
    if _of(graphs, ("trt_ops",)):
        sections.append(Section("TensorFlow's graphs with TensorRT's engines in them", 5, lines(graphs, _GRAPHS)))
    if engines:
        sections.append(Section("Engines without TensorFlow", 4, lines(engines, _engines(engines))))
    return sections


def _of(rows: Sequence[Row], kinds: Sequence[str]) -> list[Row]:
    return [row for row in rows if (proof := figures.proof(row)) and proof.kind in kinds]


def _proof(row: Row) -> Proof:
    proof = figures.proof(row)
    assert proof is not None, row.name
    return proof


def _text(name: str) -> Cell:
    """A fact in words; empty where it is not known."""

    def cell(row: Row) -> str:
        value = _proof(row).facts.get(name)
        return "" if value is None else str(value)

    return cell


def _number(name: str, digits: int, scale: float = 1) -> Cell:
    """A fact as a number; empty where it is not known."""

    def cell(row: Row) -> str:
        return number(_numeric(_proof(row).facts.get(name)), digits=digits, scale=scale, plain=True)

    return cell


def _numeric(value: Scalar) -> float | None:
    return value if isinstance(value, (int, float)) else None


def _tf32(row: Row) -> str:
    return "on" if _proof(row).facts.get("tf32") else "off"


def _outside(row: Row) -> str:
    """Operations that no engine took over, and how many of each."""
    return ", ".join(f"{count} {operation}" for operation, count in _proof(row).under("ops_outside").items())


def _batches(row: Row) -> str:
    """Batch sizes by engine."""
    return ", ".join(name.removeprefix("batch") for name in _proof(row).under("engine_build_s"))


def _layers(row: Row) -> str:
    return " / ".join(str(_proof(row).layers.get(precision, 0)) for precision in PRECISIONS)


def _convert_s(row: Row) -> str:
    return number(figures.seconds(row), digits=0, plain=True)


def _build_s(row: Row) -> str:
    """Of all engines together."""
    seconds = [_numeric(value) or 0 for value in _proof(row).under("engine_build_s").values()]
    return number(sum(seconds), digits=0, plain=True) if seconds else ""


def _process_memory(row: Row) -> str:
    """Of the whole process, CUDA's own included."""
    return _megabytes(row.footprint.gpu_process_memory_bytes if row.footprint else None)


def _peak_memory(row: Row) -> str:
    """The most that the runtime allocated."""
    return _megabytes(row.footprint.gpu_peak_memory_bytes if row.footprint else None)


def _megabytes(size: int | None) -> str:
    return number(size, digits=0, scale=1e-6, plain=True)


def _part(batch_size: int, name: str) -> Cell:
    """Milliseconds of a part of an inference at a batch size."""

    def cell(row: Row) -> str:
        speed = row.speed(batch_size)
        parts = speed.parts_ms if speed else None
        return number(getattr(parts, name), digits=3, plain=True) if parts else ""

    return cell


_SECONDS: dict[str, Cell] = {"convert s": _convert_s, "build s": _build_s}
_GPU_MEMORY: dict[str, Cell] = {"GPU memory MB": _process_memory, "GPU peak MB": _peak_memory}
_GRAPHS: dict[str, Cell] = {
    "variant": lambda row: row.name,
    "TF32": _tf32,
    "TensorRT linked": _text("tensorrt_linked"),
    "TensorRT loaded": _text("tensorrt_loaded"),
    "outside the engines": _outside,
    "engine ops": _text("engine_ops"),
    "nodes in engines %": _number("share_in_engines", 1, 100),
    **_SECONDS,
    "variables MB": _number("variables_bytes", 1, 1e-6),
    "graph MB": _number("graph_bytes", 1, 1e-6),
    "engines MB": _number("engine_bytes", 1, 1e-6),
    **_GPU_MEMORY,
}


def _engines(rows: Sequence[Row]) -> dict[str, Cell]:
    """What engines compute in, and where the GPU's time goes at the largest batch size."""
    largest = figures.batch_sizes(rows)[-1]
    names = zip(("copy in", "compute", "copy out"), PARTS, strict=True)
    return {
        "variant": lambda row: row.name,
        "TF32": _tf32,
        "built by": _text("tensorrt"),
        "engines for batch": _batches,
        "layers INT8 / FP16 / FP32": _layers,
        **_SECONDS,
        "engines MB": _number("engine_bytes", 1, 1e-6),
        **{f"{heading} ms, batch {largest}": _part(largest, name) for heading, name in names},
        **_GPU_MEMORY,
    }
