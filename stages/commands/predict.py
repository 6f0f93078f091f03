"""`make predict`: the five best classes of images, as one converted variant sees them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.commands import outcome, results
from stages.contracts import codec, labels, predictions
from stages.contracts.conversion import MANIFEST, Manifest, folder
from stages.contracts.evaluation import Counts
from stages.contracts.messages import Loaded, LoadOrder, PredictOrder
from stages.contracts.model import MODEL, ModelRecord
from stages.contracts.predictions import Predictions
from stages.contracts.row import SUMMARY, Summary
from stages.core import files
from stages.core.errors import PipelineError
from stages.core.shown import say
from stages.data.decode import decode
from stages.runtimes import registry
from stages.runtimes.client import Client


def predict(names: Sequence[str], variant: str | None) -> None:
    """Print the best classes of each image with their probabilities."""
    for name in names:
        decode(Path(name))  # says by the user's own name what is no image
    paths = [Path(name).absolute() for name in names]
    with results.last():
        manifest, classes = converted(variant), labels.read()
        answers = _answers(manifest, paths)
    for name, answer in zip(names, answers, strict=True):
        say(f"{name} ({manifest.variant.name})")
        if not answer.classes:
            say("  no answer: the model gives NaN or infinity")
        for index, score in zip(answer.classes, answer.scores, strict=True):
            say(f"  {score:7.2%}  {classes.name(index)}")


def _answers(manifest: Manifest, paths: Sequence[Path]) -> Predictions:
    """By the variant's own worker, which reads a folder of labelled images; their labels do not matter."""
    model = codec.read(ModelRecord, MODEL)
    with tempfile.TemporaryDirectory() as place:
        images, target = Path(place), Path(place) / "predictions.csv"
        linked = [f"{number}{path.suffix}" for number, path in enumerate(paths)]
        for name, path in zip(linked, paths, strict=True):
            (images / name).symlink_to(path)
        files.write_csv(images / "labels.csv", ("file", "label"), ((name, 0) for name in linked))
        with Client(manifest.variant.edition) as client:
            where = folder(manifest.variant.name)
            client.ask("load", LoadOrder(str(where), None, model.preprocessing), Loaded)
            client.ask("predict", PredictOrder(str(images), str(target), 1), Counts)
        return predictions.read(target)


def converted(variant: str | None) -> Manifest:
    """The variant asked for, else the chosen one, else the first that has a model; PipelineError lists those that have.

    What is left of an earlier run, and is no part of the last results, does not count.
    """
    if variant is not None and variant not in registry.valid():
        raise PipelineError(
            f"there is no variant {variant}: name one of {', '.join(registry.valid())}",
            code="unknown-variant",
            variant=variant,
        )
    summary = codec.read(Summary, SUMMARY) if SUMMARY.exists() else None
    known = {row.name for row in summary.here} if summary else registry.valid()
    there = [name for name in registry.valid() if name in known and (folder(name) / MANIFEST).exists()]
    if variant in there and (named := _manifest(variant)).status.ok:
        return named
    ready = {name: manifest for name in there if (manifest := _manifest(name)).status.ok}
    if not ready:
        raise PipelineError("no variant is converted yet: run `make repro` first", code="nothing-converted")
    if variant is not None:
        raise PipelineError(
            f"{variant} is not converted here: name one of {', '.join(ready)}", code="not-converted", variant=variant
        )
    return ready.get(outcome.winner() or "") or next(iter(ready.values()))


def _manifest(name: str) -> Manifest:
    path = folder(name) / MANIFEST
    found = codec.read(Manifest, path)
    if found.variant.name != name:
        raise PipelineError(
            f"{path} is of {found.variant.name}: delete it and run `make repro`",
            code="manifest-variant",
            file=str(path),
        )
    return found
