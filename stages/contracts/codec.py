"""Records to JSON and back: each with the version of its shape, written whole or not at all, and no NaN in any."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec

from ..core import files
from ..core.errors import PipelineError


class Record(Protocol):
    """A frozen dataclass that one stage writes and others read; SCHEMA changes with the meaning of its fields."""

    SCHEMA: ClassVar[int]


Kind = TypeVar("Kind", bound=Record)


class _Header(msgspec.Struct):
    # Records had none before they were typed.
    schema: int = 0


def write(record: Record, path: Path) -> None:
    """Write the record as indented JSON; PipelineError names a field that holds NaN or infinity."""
    files.write_bytes(path, encode(record, str(path)) + b"\n")


def read(kind: type[Kind], path: Path) -> Kind:
    """The record in a file; PipelineError says what is wrong with it, in which field, and what to do."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise PipelineError(
            f"{path} is missing: run `make repro`, which writes it", code="record-missing", file=str(path)
        ) from None
    return decode(kind, content, str(path))


def encode(record: Record, name: str) -> bytes:
    """The record as indented JSON, its schema first; `name` is what an error calls it."""
    content = {"schema": record.SCHEMA} | plain(record, name)
    return msgspec.json.format(msgspec.json.encode(content), indent=2)


def plain(value: object, name: str) -> Any:
    """Dicts, lists and scalars of it; PipelineError names a field that holds NaN or infinity, which JSON has not."""
    builtins = msgspec.to_builtins(value)
    for field, number in _numbers(builtins, ""):
        if not math.isfinite(number):
            raise PipelineError(
                f"{name} cannot hold {number} in `{field}`: a figure is a finite number or null",
                code="record-not-finite",
                file=name,
                field=field,
            )
    return builtins


def decode(kind: type[Kind], content: bytes, name: str) -> Kind:
    """The inverse of `encode`; PipelineError for another schema or a damaged field."""
    try:
        found = msgspec.json.decode(content, type=_Header).schema
        if found != kind.SCHEMA:
            raise PipelineError(
                f"{name} has schema {found}, and this version reads {kind.SCHEMA}: run `make repro`, which writes it "
                "anew",
                code="record-schema",
                file=name,
                schema=found,
            )
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        field = _field(str(error))
        raise PipelineError(
            f"{name} is damaged in `{field}` ({str(error).partition(' - at ')[0]}): delete it and run `make repro`",
            code="record-field",
            file=name,
            field=field,
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{name} is not valid JSON ({error}): delete it and run `make repro`", code="record-damaged", file=name
        ) from None


def _numbers(value: object, place: str) -> Iterator[tuple[str, float]]:
    """Every float inside, with the path of its field."""
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            inside = f"{place}.{key}" if place else str(key)
            yield from _numbers(key, inside)
            yield from _numbers(inner, inside)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _numbers(inner, f"{place}[{index}]")


def _field(message: str) -> str:
    """What msgspec calls `$.top1.value` at the end of its message; a missing or unknown field stands at its start."""
    place = re.search(r" - at `\$\.?(.*?)`$", message)
    missing = re.match(r"Object missing required field `(.*?)`", message)
    return ".".join(filter(None, [place and place[1], missing and missing[1]])) or "the whole file"
