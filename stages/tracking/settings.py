"""The params of a run in MLflow: the settings that shaped it, the most telling first; params.yaml has all of them."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

from stages.contracts.row import Row, Summary
from stages.params.document import Params
from stages.params.model import CUSTOM

# Columns beyond these make MLflow's table of runs unreadable.
MOST = 30
BEFORE = ("model", "evaluation", "calibration", "budget", "select")
AFTER = ("benchmark", "convert", "execution")

Values = dict[str, object]


def parameters(setting: Params) -> Values:
    """All of params.yaml as MLflow wants it: one level, dotted names."""
    return flat(asdict(setting))


def flat(value: object, prefix: str = "") -> Values:
    """Nested values under dotted names; a list is one text."""
    if not isinstance(value, dict):
        return {prefix: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value}
    return {
        key: leaf for name, inner in value.items() for key, leaf in flat(inner, f"{prefix}.{name}".strip(".")).items()
    }


def of_pipeline(setting: Params, summary: Summary) -> Values:
    """Of a run of the pipeline, with what its images are."""
    images = {
        "evaluation.images": summary.evaluation.images,
        "evaluation.digest": summary.evaluation.digest,
        "calibration.digest": summary.calibration.digest,
    }
    return _most({"variants": setting.variants}, images, *_blocks(setting))


def of_variant(setting: Params, row: Row) -> Values:
    """Of one variant, with the options of its runtime alone."""
    variant = row.variant
    own: Values = {
        "variant": variant.name,
        "runtime": variant.runtime,
        "precision": variant.precision,
        "qat": str(variant.qat).lower(),
    }
    return _most(own, {variant.runtime: setting.runtimes[variant.runtime]}, *_blocks(setting))


def _blocks(setting: Params) -> Iterator[Values]:
    """Those that this run read."""
    read = [*BEFORE]
    read += ["custom"] * (setting.model.name == CUSTOM)
    read += ["split"] * (setting.split.source is not None)
    read += [*AFTER, *["train"] * setting.model.trains]
    return ({name: asdict(getattr(setting, name))} for name in read)


def _most(*blocks: Values) -> Values:
    """What is set, as far as it is shown."""
    values = {name: value for block in blocks for name, value in flat(block).items() if value not in (None, "")}
    return dict(islice(values.items(), MOST))
