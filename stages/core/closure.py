"""Which files a module reaches by its imports: what DVC is told, what a digest covers, what travels with a model."""

import ast
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core import files
from stages.core.errors import PipelineError

if TYPE_CHECKING:
    import grimp

PACKAGE = "stages"
ROOT = Path(__file__).parents[2]
FILE_NAME = re.compile(r"[\w-][\w./-]*\.[\w.]+")


class Imports:
    """The import graph of this package, imports inside functions included; read when it is first asked for.

    A module that is imported by a computed name is not in it: those of runtimes run in another interpreter, and
    `runtimes/fingerprints.py` has digests of them.
    """

    def files(self, *modules: str) -> list[Path]:
        """Paths, relative to the checkout, of these modules and of all that they reach, with the files those name.

        A package's own `__init__` runs whenever something in it is imported, so that it counts too, if it does more
        than to say what the package is for.
        """
        reached: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += self._next(module)
        paths = {path for module in reached for path in _of(module)}
        return sorted(path.relative_to(ROOT) for path in paths)

    def digest(self, *modules: str) -> str:
        """One digest of the contents of `files`."""
        return files.combine([f"{path} {_sha256(ROOT / path)}" for path in self.files(*modules)])

    @cached_property
    def _graph(self) -> "grimp.ImportGraph":
        import grimp  # the champion's package is made with this module, but carries neither

        try:
            return grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
        except grimp.exceptions.SourceSyntaxError as error:
            raise PipelineError(
                f"{error.filename}, line {error.lineno}, is no Python ({error.text}): correct it",
                code="syntax-error",
                file=str(error.filename),
                line=error.lineno,
            ) from None

    def _next(self, module: str) -> Iterator[str]:
        yield from self._graph.find_modules_directly_imported_by(module)
        if parent := module.rpartition(".")[0]:
            yield parent


def named(tree: ast.Module) -> Iterator[str]:
    """Every string of a module that could name a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and FILE_NAME.fullmatch(node.value):
            yield node.value


def imported(path: Path) -> Iterator[str]:
    """Modules of this package that a file from elsewhere imports by their whole names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from (name for name in names if (ROOT / name.replace(".", "/")).with_suffix(".py").is_file())


@cache
def _of(module: str) -> tuple[Path, ...]:
    """The file of a module, and those below its folder that it names in a string."""
    place = ROOT / module.replace(".", "/")
    path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if place.is_dir() and len(tree.body) <= 1:
        return ()
    beside = (path.parent / name for name in named(tree))
    return path, *(other for other in beside if other.suffix != ".py" and other.is_file())


@cache
def _sha256(path: Path) -> str:
    return files.sha256(path)
