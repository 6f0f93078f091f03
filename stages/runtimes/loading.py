"""A converted variant's folder as a session, in the process that asks: a worker's, or a served model's."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import msgspec

from ..contracts import codec
from ..contracts.conversion import MANIFEST, Manifest, Scalar
from ..core.errors import PipelineError
from . import registry
from .contract import Open, Session


def options(runtime: str, block: Mapping[str, Scalar]) -> Any:
    """The runtime's own Options, with its defaults for what the block leaves out."""
    return msgspec.convert(block, registry.description(runtime).options)


def defaults(runtime: str, block: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The same as plain values."""
    return asdict(options(runtime, block))  # not msgspec.to_builtins, which leaves out the defaults it has filled in


def load(folder: Path, threads: int | None = None) -> Session:
    """A session on the model in a variant's folder, as its manifest says, with so many CPU threads (None: all)."""
    manifest = codec.read(Manifest, folder / MANIFEST)
    runtime, precision = manifest.variant.runtime, manifest.variant.precision
    module = cast(Open, registry.module(runtime, "session"))
    return module.open_session(folder, precision, _recorded(folder / MANIFEST, runtime, manifest.options), threads)


def _recorded(path: Path, runtime: str, block: Mapping[str, Scalar]) -> Any:
    try:
        return options(runtime, block)
    except msgspec.ValidationError as error:
        raise PipelineError(
            f"{path} has options that {runtime} does not take ({error}): delete it and run `make repro`",
            code="record-options",
            file=str(path),
            runtime=runtime,
        ) from None
