"""reports/fingerprints.json: of each variant one digest of all that its runtime brings, which DVC compares.

A runtime is imported by name in another process, so that no import of a stage reaches it. Without these digests an
edit of one runtime would convert the variants of all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property

import msgspec

from ..contracts.conversion import Scalar
from ..contracts.environment import CpuSettings, Environment, Fingerprints, Machine
from ..contracts.variant import Variant
from ..core import files
from ..core.closure import PACKAGE, ROOT, Imports, imported
from . import loading, registry


class Digests:
    """Reads the code of each runtime once."""

    def __init__(self, environment: Environment, options: Mapping[str, dict[str, Scalar]]) -> None:
        """`options` has the runtimes' blocks of params.yaml."""
        self._environment = environment
        self._options = options

    def of(self, variants: Iterable[str]) -> Fingerprints:
        """Those of these variants."""
        parsed = [Variant.parse(name) for name in variants]
        timed = [self._digest(variant, "session", "timer") for variant in parsed]
        speed = msgspec.json.encode(self._speed(), order="sorted").decode()
        return Fingerprints(
            convert={variant.name: self._digest(variant, "convert", "comparison") for variant in parsed},
            predict={variant.name: self._digest(variant, "session", "predict") for variant in parsed},
            time=files.combine([*timed, speed]),
            onnx=any(registry.takes_onnx(variant.name) for variant in parsed),
        )

    def _digest(self, variant: Variant, part: str, runner: str | None = None) -> str:
        runtime = variant.runtime
        found = self._environment.runtime(variant.edition)
        values = (
            loading.defaults(runtime, self._options.get(runtime, {})),
            (found.python, found.versions, found.unavailable[variant.precision], found.lock),
            self._machine(runtime),
            self._environment.settings.variables,  # they choose kernels, which answer and convert differently
        )
        plain = msgspec.json.encode(values, order="sorted").decode()
        return files.combine([self._code(runtime, part, runner), plain])

    def _machine(self, runtime: str) -> Machine:
        """What the runtime depends on: a new GPU driver leaves those of CPUs alone."""
        machine = self._environment.machine
        same = replace(machine, identity=machine.identity and replace(machine.identity, microcode=None))
        without = replace(same, driver=None, gpus=(), gpu_missing=None)
        return same if registry.description(runtime).uses_gpu else without

    def _speed(self) -> tuple[str | None, CpuSettings]:
        """What changes no answer, but how long it takes: microcode, the governor and a quota."""
        identity = self._environment.machine.identity
        return identity.microcode if identity else None, self._environment.settings

    def _code(self, runtime: str, part: str, runner: str | None) -> str:
        rooms = [f"{PACKAGE}.runtimes.{name}" for name in filter(None, ["contract", runner])]
        # The worker imports what it is asked for by name: of all that it could reach, only this part counts.
        common = [files.sha256(ROOT / PACKAGE / "runtimes" / name) for name in ("worker.py", "loading.py")]
        return files.combine([*common, self._folder(runtime, part, rooms)])

    def _folder(self, runtime: str, part: str, rooms: list[str]) -> str:
        package = registry.package(runtime)
        if package.partition(".")[0] == PACKAGE:
            return self._imports.digest(f"{package}.{part}", *rooms)
        sources = sorted(registry.folder(runtime).rglob("*.py"))  # not what Python makes of them
        own = [f"{path.name} {files.sha256(path)}" for path in sources]
        shared = {name for path in sources for name in imported(path) if name.startswith(f"{PACKAGE}.")}
        return files.combine([self._imports.digest(*rooms, *shared), *own])

    @cached_property
    def _imports(self) -> Imports:
        return Imports()
