"""What TensorFlow and Keras know by name, cut down to what computes and nothing else: the lists of the models' door.

`python -m tests.model.registries` writes them beside the door; a test compares.
"""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stages.model
from stages.core.tensorflow import tensorflow


def words(text: str) -> set[str]:
    return set(text.split())


ROOM = Path(stages.model.__file__).parent
# Families of operations, as TensorFlow sorts them, that work on what is in memory alone.
FAMILIES = words(
    """
    array bitwise composite_tensor control_flow count ctc cudnn_rnn functional image linalg list lookup manip
    math nn optional parsing ragged_array ragged_conversion ragged_math random random_index_shuffle
    resource_variable rnn set sparse special_math spectral state stateful_random stateless_random
    stateless_random_v2 string training uniform_quant
    """
)
# Of other families: parts of control flow, what only checks, and the next item of what a caller gives.
MORE = re.compile(r"IteratorGetNext|TensorArray\w*|Stack\w*|Dynamic(Partition|Stitch)|ParallelDynamicStitch|Assert")
# Of these families: it ends the process, runs on another machine, or reads a file.
LESS = words("Abort RemoteCall ImmutableConst InitializeTableFromTextFile InitializeTableFromTextFileV2")
LESS_PATTERN = re.compile(r".*SparseToTensorsMap|.*SparseFromTensorsMap")
# Parts of Keras's own interface whose classes are layers and what they hold, and whose functions compute.
HELD = words(
    """
    layers _legacy.layers initializers regularizers constraints losses metrics optimizers optimizers.schedules
    dtype_policies mixed_precision quantizers
    """
)
COMPUTE = words("activations losses metrics ops ops.image")
# Models, and what stands in the top of that interface.
TOP = words("Sequential Model DTypePolicy FloatDTypePolicy")
# They hold code or load it, read a model or another file, or are what others are made of and no layer.
PROGRAMS = words(
    """
    Lambda TFSMLayer TorchModuleWrapper JaxLayer FlaxLayer Layer Loss Metric Optimizer Initializer Regularizer
    Constraint Quantizer QuantizationConfig LearningRateSchedule AWQConfig GPTQConfig
    """
)
# Operations and functions that take a function and call it, and helpers that give back objects.
CALLERS = words("AssociativeScan Cond ForiLoop JVP Map Scan Switch VectorizedMap WhileLoop")
CALLING = words(
    """
    associative_scan cond custom_gradient fori_loop jvp map scan switch vectorize vectorized_map while_loop
    serialize deserialize get convert_to_numpy
    """
)


def operations() -> set[str]:
    """All of TensorFlow that only compute."""
    tf = tensorflow()
    from tensorflow.python.framework import op_def_registry

    raw = {name for name in dir(tf.raw_ops) if op_def_registry.get(name)}
    modules = [importlib.import_module(f"tensorflow.python.ops.gen_{_family(name)}") for name in FAMILIES]
    found = {name for module in modules for name in dir(module) if name in raw}
    found |= {name for name in raw if MORE.fullmatch(name)}
    return {name for name in found - LESS if not LESS_PATTERN.fullmatch(name)}


def _family(name: str) -> str:
    return "stateless_random_ops_v2" if name.endswith("_v2") else f"{name}_ops"


def functions() -> set[str]:
    """Of Keras's interface, those that a layer can be told to call and that only compute."""
    tensorflow().keras.layers.Layer  # noqa: B018 (Keras registers its names when it is first used)
    from keras.src import api_export

    return {
        name
        for name, symbol in api_export.REGISTERED_NAMES_TO_OBJS.items()
        if inspect.isfunction(symbol) and _part(name) in COMPUTE and name.rpartition(".")[2] not in CALLING
    }


def classes() -> set[str]:
    """Of Keras, with their modules: layers, operations and what they hold."""
    tensorflow().keras.layers.Layer  # noqa: B018
    from keras.src import api_export

    exported = {name: kind for name, kind in api_export.REGISTERED_NAMES_TO_OBJS.items() if inspect.isclass(kind)}
    named = {name for name in exported if _part(name) in HELD or name in {f"keras.{top}" for top in TOP}}
    found = {kind for name, kind in exported.items() if name in named and kind.__name__ not in PROGRAMS}
    named = {name for name in named if exported[name] in found}
    return named | {*_other_names(found)} | {*_unexported({*exported.values()})}


def _part(name: str) -> str:
    return name.removeprefix("keras.").rpartition(".")[0]


def _other_names(found: set[type]) -> Iterator[str]:
    """Names that Keras's public modules have for them too, as older files do."""
    for part in HELD - {"_legacy.layers"}:
        module = f"keras.{part}"
        try:
            held = vars(importlib.import_module(module))
        except ModuleNotFoundError:
            continue
        yield from (f"{module}.{name}" for name, kind in held.items() if inspect.isclass(kind) and kind in found)


def _unexported(exported: set[Any]) -> Iterator[str]:
    """What Keras names by the module of its sources: operations, networks, layers of keras.applications."""
    from keras.src.saving.keras_saveable import KerasSaveable

    places = re.compile(
        r"keras\.src\.(ops\.(?!function|operation|node)\w+|applications\.\w+|activations\.activations|models\.functional)"
    )
    for kind in _below(KerasSaveable):
        if kind not in exported and places.fullmatch(kind.__module__) and kind.__name__ not in CALLERS:
            yield f"{kind.__module__}.{kind.__name__}"


def _below(kind: type) -> Iterator[type]:
    for other in kind.__subclasses__():
        yield other
        yield from _below(other)


LISTS = {"pure_operations.txt": operations, "pure_functions.txt": functions, "keras_classes.txt": classes}


if __name__ == "__main__":
    for name, found in LISTS.items():
        (ROOM / name).write_text("\n".join(sorted(found())) + "\n")
