"""What in a SavedModel is more than data: operations outside a list of those that only compute, links, outer files."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.tensorflow import tensorflow
from stages.model.signatures import readable

if TYPE_CHECKING:
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

PURE = frozenset(Path(__file__).with_name("pure_operations.txt").read_text().split())
# What loading a model of TensorFlow 1 runs: its variables come out of files.
RESTORE = PURE | {"Restore", "RestoreSlice", "RestoreV2"}
# What lies beside the model for one who trains on; no loading reaches it.
SAVE = RESTORE | {"Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints", "ShardedFilename", "ShardedFilespec"}
# They fill a table from a text file.
TABLES = ("InitializeTableFromTextFile", "InitializeTableFromTextFileV2")


def findings(path: Path) -> Iterator[str]:
    """Each part that is more than data."""
    yield from _links(path)
    tensorflow()  # for its definition of the file: nothing of the file is opened
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    with readable(path, "save it again with the TensorFlow that it was made with"):
        model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        for graph in model.meta_graphs:
            yield from _outer_assets(graph)
            yield from _Graph(graph).findings()


def _links(path: Path) -> Iterator[str]:
    for file in sorted(path.rglob("*")):
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            yield f"{file.relative_to(path)} is a link or no regular file"


def _outer_assets(graph: "MetaGraphDef") -> Iterator[str]:
    for asset in graph.asset_file_def:
        if Path(asset.filename).is_absolute() or ".." in Path(asset.filename).parts:
            yield f"the asset {asset.filename} lies outside its folder"


class _Graph:
    """One graph with the functions that its nodes call."""

    def __init__(self, graph: "MetaGraphDef") -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.graph_def.node}
        self._functions = {function.signature.name: function for function in graph.graph_def.library.function}

    def findings(self) -> Iterator[str]:
        """Operations outside the list of where they stand."""
        running = self._reached(self._results, self._graph.object_graph_def.concrete_functions)
        loading = self._reached([self._graph.saver_def.restore_op_name], [])
        for place, node in self._all():
            allowed = PURE if place in running else RESTORE if place in loading else SAVE
            known = node.op in allowed or node.op in self._functions
            if not known and not (node.op in TABLES and self._reads_asset(place[0], node)):
                yield f"operation {node.op} of node {node.name}"

    def _all(self) -> Iterator[tuple[tuple[str, str], "NodeDef"]]:
        """All nodes, by function (none: the graph itself) and name."""
        for node in self._graph.graph_def.node:
            yield ("", node.name), node
        for name, function in self._functions.items():
            yield from (((name, node.name), node) for node in function.node_def)

    @cached_property
    def _results(self) -> list[str]:
        """What runs of the graph itself: outputs of signatures, and what fills variables and tables."""
        graph = self._graph
        ends = [end.name for signature in graph.signature_def.values() for end in signature.outputs.values()]
        return ends + [name for kept in graph.collection_def.values() for name in kept.node_list.value]

    def _reached(self, ends: Iterable[str], functions: Iterable[str]) -> set[tuple[str, str]]:
        """Nodes that these nodes of the graph and these functions need."""
        found: set[tuple[str, str]] = set()
        waiting = [("", _node(end)) for end in ends]
        waiting += [place for name in functions for place in self._body(name)]
        while waiting:
            place = waiting.pop()
            node = self._nodes.get(place[1]) if not place[0] else self._inner.get(place)
            if node is not None and place not in found:
                found.add(place)
                waiting += [] if place[0] else [("", _node(name)) for name in node.input]
                waiting += [inner for name in self._calls(node) for inner in self._body(name)]
        return found

    @cached_property
    def _inner(self) -> dict[tuple[str, str], "NodeDef"]:
        return {place: node for place, node in self._all() if place[0]}

    def _body(self, function: str) -> list[tuple[str, str]]:
        found = self._functions.get(function)
        return [(function, node.name) for node in found.node_def] if found else []

    def _calls(self, node: "NodeDef") -> list[str]:
        """Functions that a node calls: by its operation, or by an attribute."""
        named = [function.name for value in node.attr.values() for function in (value.func, *value.list.func)]
        return [name for name in (node.op, *named) if name in self._functions]

    def _reads_asset(self, function: str, node: "NodeDef") -> bool:
        """Whether the text file of a table is one of the model's own."""
        file = _node(node.input[1])
        if not function:
            return file in {_node(asset.tensor_info.name) for asset in self._graph.asset_file_def}
        objects = self._graph.object_graph_def
        captured = objects.concrete_functions[function].bound_inputs
        arguments = [argument.name for argument in self._functions[function].signature.input_arg]
        held = dict(zip(arguments[-len(captured) :], captured, strict=True)) if captured else {}
        return file in held and objects.nodes[held[file]].HasField("asset")


def _node(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]
