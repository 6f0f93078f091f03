"""Writes docs/reference/records.md from the records' own dataclasses: `make records`; a test compares."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from stages import contracts
from stages.cluster import adopt
from stages.serving import export
from stages.tracking import receipts

PAGE = Path(__file__).parents[2] / "docs/reference/records.md"
INTRODUCTION = """# Records

Stages meet in these files, and in tables and models beside them ([stages](stages.md)). Each record is JSON, written by
one stage as a frozen dataclass, whole or not at all. `schema` counts versions of its shape: a record of another version
is refused with the command that makes it anew. A figure is a finite number or `null`; shares are from 0 to 1; units
stand in the names (`p50_ms`, `size_bytes`). The names of the facts of a `Proof` are in [proofs](proofs.md).

`make records` writes this page from the dataclasses.
"""
# Modules whose records lie elsewhere than in contracts, since only their own room reads them.
OTHERS = (adopt, receipts, export)
# Path and writer of each record by its class; a command writes what stands outside reports/ and models/.
WRITTEN = {
    "Environment": ("reports/environment.json", "environment"),
    "Fingerprints": ("reports/fingerprints.json", "environment"),
    "GpuModels": ("reports/gpu_models.json", "environment"),
    "Sources": ("reports/sources.json", "environment"),
    "StoreState": ("reports/store.json", "environment"),
    "DownloadRecord": ("reports/download.json", "download"),
    "ImagesRecord": ("reports/images.json", "images"),
    "TrainRecord": ("reports/train.json", "train"),
    "ModelRecord": ("reports/model.json", "save"),
    "QatRecord": ("reports/qat.json", "qat"),
    "OnnxRecord": ("reports/onnx.json", "to_onnx"),
    "Sweep": ("reports/sweep.json", "sweep"),
    "Conversion": ("reports/variants/VARIANT/convert.json", "convert"),
    "Manifest": ("models/VARIANT/variant.json", "convert"),
    "Evaluation": ("reports/variants/VARIANT/evaluate.json", "evaluate"),
    "Timing": ("reports/benchmark.json", "benchmark"),
    "Summary": ("reports/summary.json", "summarize"),
    "Selection": ("reports/selection.json", "select"),
    "TrackReceipt": ("reports/track.json", "track"),
    "RegisterReceipt": ("reports/register.json", "register"),
    "ExportRecord": ("export/export.json", "make export"),
}


def page() -> str:
    """All records with their fields, then the parts that they are made of."""
    kinds = {kind.__name__: kind for kind in _dataclasses()}
    records = [_section(kinds[name], *place) for name, place in WRITTEN.items()]
    parts = [_section(kind) for name, kind in sorted(kinds.items()) if name not in WRITTEN and name in _used(kinds)]
    return "\n".join([INTRODUCTION, *records, "## Parts\n", *parts]).rstrip() + "\n"


def _dataclasses() -> Iterator[type]:
    names = [module.name for module in pkgutil.iter_modules(contracts.__path__, f"{contracts.__name__}.")]
    for module in [*map(importlib.import_module, names), *OTHERS]:
        for kind in vars(module).values():
            if inspect.isclass(kind) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__:
                yield kind


def _used(kinds: dict[str, type]) -> set[str]:
    """Names of all kinds that a record is made of."""
    reached: set[str] = set()
    waiting = list(WRITTEN)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            words = re.findall(r"\w+", " ".join(_type(field) for field in dataclasses.fields(kinds[name])))
            waiting += [word for word in words if word in kinds]
    return reached


def _section(kind: type, path: str = "", stage: str = "") -> str:
    title = f"## {path}\n\nWritten by `{stage}` as `{kind.__name__}`. " if path else f"### {kind.__name__}\n\n"
    notes = _comments(kind)
    rows = [
        f"| `{field.name}` | `{_cell(_type(field))}` | {_cell(notes.get(field.name, ''))} |"
        for field in dataclasses.fields(kind)
    ]
    return "\n".join(
        [title + " ".join((kind.__doc__ or "").split()), "", "| field | type | |", "|---|---|---|", *rows, ""]
    )


def _type(field: "dataclasses.Field[object]") -> str:
    name = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    return re.sub(r"\b(?:stages\.\w+\.\w+|typing|collections\.abc)\.", "", name)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _comments(kind: type) -> dict[str, str]:
    """The comment above a field, or behind it, by the field's name."""
    lines = inspect.getsource(kind).splitlines()
    found = {}
    for node in ast.parse(inspect.cleandoc("\n".join(lines))).body[0].body:  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above = []
            for line in reversed(lines[: node.lineno - 1]):
                if not line.strip().startswith("# "):
                    break
                above.insert(0, line.strip().removeprefix("# "))
            behind = lines[node.lineno - 1].partition("  # ")[2]
            found[node.target.id] = " ".join(filter(None, [*above, behind]))
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
