"""What a result of a cluster was made from, as one digest: as long as it is the same, the result is kept."""

import json
from dataclasses import asdict
from pathlib import Path

from stages.contracts import codec
from stages.contracts.environment import Fingerprints
from stages.contracts.images import CALIBRATION, IMAGES
from stages.contracts.model import MODEL, ONNX, SAVED_MODEL, ModelRecord
from stages.contracts.reference import ANSWERS
from stages.contracts.training import QAT, QAT_RECORD
from stages.contracts.variant import Variant
from stages.core import files
from stages.core.closure import Imports
from stages.measurement import conversion
from stages.params.measurement import BenchmarkParams

IMPORTS = Imports()
# What asks the runtimes, by unit.
ASKING = ("conversion", "evaluation", "interleave")


class Keys:
    """Keys of the units of one GPU model: what its runtimes bring, and what asks them, as the imports tell."""

    def __init__(self, fingerprints: Fingerprints) -> None:
        """To be made in the main thread, since Python's parser is not made for several."""
        self._prints = fingerprints
        self._code = {name: IMPORTS.digest(f"stages.measurement.{name}") for name in ASKING}
        self._digests: dict[Path, str] = {}

    def convert(self, name: str, setting: conversion.Setting) -> str:
        """Of a conversion."""
        trained = (QAT, QAT_RECORD) if Variant.parse(name).qat else ()
        inputs = [self._input(), *(self._digest(path) for path in (SAVED_MODEL, ANSWERS, ONNX, CALIBRATION, *trained))]
        return files.combine([self._prints.convert[name], self._code["conversion"], *inputs, _plain(setting)])

    def evaluate(self, name: str, model: str, batch_size: int) -> str:
        """Of an evaluation of a model with that digest."""
        inputs = [self._input(), self._digest(IMAGES)]
        return files.combine([self._prints.predict[name], self._code["evaluation"], *inputs, model, str(batch_size)])

    def benchmark(self, models: dict[str, str], setting: BenchmarkParams) -> str:
        """Of the timing of models with these digests."""
        inputs = [self._input(), json.dumps(models, sort_keys=True)]
        return files.combine([self._prints.time, self._code["interleave"], *inputs, _plain(setting)])

    @staticmethod
    def _input() -> str:
        """How an image becomes model input, of all that the model's record tells."""
        return json.dumps(asdict(codec.read(ModelRecord, MODEL).preprocessing))

    def _digest(self, path: Path) -> str:
        """Of a file or folder, read once."""
        if path not in self._digests:
            self._digests[path] = files.digest(path)
        return self._digests[path]


def _plain(setting: conversion.Setting | BenchmarkParams) -> str:
    return json.dumps(asdict(setting), sort_keys=True)
