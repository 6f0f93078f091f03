"""Which files a module reaches by its imports: what DVC is told, what a digest covers, what travels with a model."""

import ast
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

import grimp

PACKAGE = "stages"
ROOT = Path(__file__).parents[2]
FILE_NAME = re.compile(r"[\w-][\w./-]*\.[\w.]+")


class Imports:
    """The import graph of this package, imports inside functions included; read when it is first asked for."""

    def files(self, *modules: str) -> list[Path]:
        """Paths, relative to the checkout, of these modules and of all that they reach, with the files those name.

        A package's own `__init__` runs whenever something in it is imported, so that it counts too.
        """
        reached: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += self._next(module)
        found = {path for module in reached for path in self._of(module)}
        return sorted(path.relative_to(ROOT) for path in found)

    @cached_property
    def _graph(self) -> grimp.ImportGraph:
        return grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)

    def _next(self, module: str) -> Iterator[str]:
        yield from self._graph.find_modules_directly_imported_by(module)
        if parent := module.rpartition(".")[0]:
            yield parent
        for package in computed_imports(_tree(module)):
            yield from self._graph.find_children(package)

    def _of(self, module: str) -> Iterator[Path]:
        """The file of a module, and those below its folder that it names in a string."""
        path = _path(module)
        yield path
        for name in named(_tree(module)):
            place = path.parent / name
            if place.is_file() and place.suffix != ".py":
                yield place


def named(tree: ast.Module) -> Iterator[str]:
    """Every string of a module that could name a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and FILE_NAME.fullmatch(node.value):
            yield node.value


def computed_imports(tree: ast.Module) -> Iterator[str]:
    """Packages of which a module imports any child, by a computed name such as f"stages.runtimes.{name}"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            (name,) = node.args
            if isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
                yield str(name.values[0].value).rstrip(".")


def _path(module: str) -> Path:
    place = ROOT / module.replace(".", "/")
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))
