"""What a result of a cluster was made from, as one digest: as long as it is the same, the result is kept."""

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from stages.contracts import codec
from stages.contracts.environment import FINGERPRINTS, Environment, Fingerprints
from stages.contracts.images import CALIBRATION, IMAGES
from stages.contracts.model import MODEL, ONNX, SAVED_MODEL
from stages.contracts.training import QAT, QAT_RECORD
from stages.contracts.variant import Variant
from stages.core import files
from stages.core.closure import Imports
from stages.measurement import conversion
from stages.params.measurement import BenchmarkParams

IMPORTS = Imports()


class Keys:
    """Keys of the units of one GPU model.

    What the runtimes bring, `environment` has in its fingerprints; what asks them, the imports tell. The fingerprints
    are those of the primary GPU model, to which another one adds its `environment`.
    """

    def __init__(self, environment: Environment | None) -> None:
        """Nothing is read yet; without an environment they are those of the primary GPU model."""
        self._machine = codec.encode(environment, "the environment").decode() if environment else ""

    def convert(self, name: str, setting: conversion.Setting) -> str:
        """Of a conversion."""
        trained = (QAT, QAT_RECORD) if Variant.parse(name).qat else ()
        inputs = [self._digest(path) for path in (MODEL, SAVED_MODEL, ONNX, CALIBRATION, *trained)]
        code = IMPORTS.digest("stages.measurement.conversion")
        return self._combine(self._prints.convert[name], code, *inputs, _plain(setting))

    def evaluate(self, name: str, model: str, batch_size: int) -> str:
        """Of an evaluation of a model with that digest."""
        code = IMPORTS.digest("stages.measurement.evaluation")
        inputs = [self._digest(path) for path in (MODEL, IMAGES)]
        return self._combine(self._prints.predict[name], code, *inputs, model, str(batch_size))

    def benchmark(self, models: dict[str, str], setting: BenchmarkParams) -> str:
        """Of the timing of models with these digests."""
        code = IMPORTS.digest("stages.measurement.interleave")
        inputs = [self._digest(MODEL), json.dumps(models, sort_keys=True)]
        return self._combine(self._prints.time, code, *inputs, _plain(setting))

    @cached_property
    def _prints(self) -> Fingerprints:
        return codec.read(Fingerprints, FINGERPRINTS)

    @cached_property
    def _digests(self) -> dict[Path, str]:
        return {}

    def _digest(self, path: Path) -> str:
        """Of a file or folder, read once."""
        if path not in self._digests:
            self._digests[path] = files.digest(path)
        return self._digests[path]

    def _combine(self, *parts: str) -> str:
        return files.combine([*parts, self._machine])


def _plain(setting: conversion.Setting | BenchmarkParams) -> str:
    return json.dumps(asdict(setting), sort_keys=True)
