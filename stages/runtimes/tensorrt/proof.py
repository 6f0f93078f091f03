"""What engines compute in, by TensorRT's own inspector."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from ...contracts.conversion import Scalar
from ...core.errors import PipelineError
from .api import Sizes

# What the inspector calls precisions, in the formats of 8.5 ("Thirty-two wide channel ... Int8 format") and of 10 on.
PRECISIONS = {"int8": r"int8", "fp16": r"fp16|half", "fp32": r"fp32|(?<!b)float(?!\d)"}
# Kinds of layers that compute nothing.
MOVING = ("Reformat", "NoOp", "Shuffle", "Constant")


class Layers(NamedTuple):
    """Layers by the precision they compute in, those with weights by that of their weights, and which have FP32."""

    computing: dict[str, int]
    weights: dict[str, int]
    fp32_weights: tuple[str, ...]

    @property
    def counted(self) -> dict[str, int]:
        """From TensorRT 10 on some layers are fused into kernels whose weights the inspector does not name."""
        return self.weights or self.computing


class Engine(NamedTuple):
    """One engine that was built, with the names of its input and its output."""

    file: str
    size_bytes: int
    seconds: float
    sizes: Sizes
    tensors: tuple[str, str]
    layers: Layers


# By what batches they take: `8`, or `1-32`.
Built = Mapping[str, Engine]


def layers(text: str) -> Layers:
    """Count the layers in the inspector's JSON, but for those that only move data.

    Raises PipelineError if there is none in detail, which would prove nothing.
    """
    try:
        listed = [layer for layer in json.loads(text)["Layers"] if isinstance(layer, dict)]
        working = [layer for layer in listed if layer.get("LayerType") not in MOVING]
        whole = [layer for layer in listed if (layer.get("Weights") or {}).get("Count")]
        weighted = [(layer["Name"], _precision(layer["Weights"]["Type"])) for layer in whole]
        computed = [_precision(inputs[0]["Format/Datatype"]) for layer in working if (inputs := layer.get("Inputs"))]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"TensorRT's inspector describes the engine in a way that is not known ({error!r}): use a version that "
            "docs/how-to/tensorrt-versions.md lists",
            code="tensorrt-inspector-unknown",
        ) from None
    if not computed:
        raise PipelineError(
            "TensorRT's inspector tells nothing of the engine's layers: use a version that "
            "docs/how-to/tensorrt-versions.md lists",
            code="tensorrt-inspector-empty",
        )
    fp32 = sorted(name for name, precision in weighted if precision == "fp32")
    return Layers(_count(computed), _count([precision for _, precision in weighted]), tuple(fp32))


def _precision(words: str) -> str:
    return next((name for name, form in PRECISIONS.items() if re.search(form, words, re.IGNORECASE)), "other")


def _count(names: list[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def check(precision: str, engines: Built) -> None:
    """PipelineError if an engine computes nothing in the precision that it is labelled with."""
    for name, engine in engines.items():
        if precision not in engine.layers.weights | engine.layers.computing:
            counts = ", ".join(f"{count} {name}" for name, count in engine.layers.counted.items())
            raise PipelineError(
                f"TensorRT computes no layer of the engine for batch {name} in {precision.upper()} ({counts}): take "
                "it off variants, or try another TensorRT (docs/how-to/tensorrt-versions.md)",
                code="tensorrt-no-layer",
                batch=name,
                precision=precision,
                layers=engine.layers.counted,
            )


def totals(engines: Built) -> dict[str, int]:
    """Layers of all engines together, by precision."""
    return {name: sum(engine.layers.counted.get(name, 0) for engine in engines.values()) for name in PRECISIONS}


def facts(engines: Built) -> dict[str, Scalar]:
    """Seconds, bytes and layers of each engine, and their bytes together."""
    flat: dict[str, Scalar] = {
        "engine_files": len(engines),
        "engine_bytes": sum(engine.size_bytes for engine in engines.values()),
    }
    for name, engine in engines.items():
        flat[f"engine_build_s.batch{name}"] = engine.seconds
        flat[f"engine.batch{name}.file"] = engine.file
        flat[f"engine.batch{name}.bytes"] = engine.size_bytes
        for kind, counts in (("layers", engine.layers.computing), ("weights", engine.layers.weights)):
            flat |= {f"engine.batch{name}.{kind}.{precision}": count for precision, count in counts.items()}
    return flat


def notes(precision: str, engines: Built) -> list[str]:
    """Layers whose weights are larger than the variant's precision says, by engine."""
    if precision == "fp32":
        return []
    large = {name: engine.layers.fp32_weights for name, engine in engines.items() if engine.layers.fp32_weights}
    return [f"keeps FP32 weights in the engine for batch {name}: {', '.join(names)}" for name, names in large.items()]
