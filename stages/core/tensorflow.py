"""TensorFlow, imported late and quietly: it takes seconds, and only some stages need it."""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from .unseen import without_log

# What TensorFlow puts around a layer's own name.
CALLS = {"StatefulPartitionedCall", "PartitionedCall"}
AGAIN = "_1"
# tensorflow.DataType: half and bfloat16.
HALVES = (14, 19)


def tensorflow(threads: int | None = None, tf32: bool | None = None) -> Any:
    """Import TensorFlow with `threads` CPU threads (None: all cores) and GPU memory that grows as needed.

    `tf32` is whether a GPU may round FP32 to 10 bits; None leaves it as it is, which at first is that it may.
    """
    # 3: even an import on a healthy machine logs errors about CUDA factories; real ones arrive as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # CUDA's own order is by speed; NVML and the records count by slot.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # Load, and on a GPU newer than TensorFlow's binaries compile, only the kernels that are used, and keep them all.
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    os.environ.setdefault("CUDA_CACHE_MAXSIZE", str(4 << 30))
    with without_log():  # that it computes by oneDNN is logged whatever its level is
        import tensorflow

    tensorflow.get_logger().setLevel("ERROR")
    if threads is not None:  # else TensorFlow may be in use already, where a notebook loads the champion
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    for gpu in tensorflow.config.list_physical_devices("GPU"):
        # Refused where the GPU is in use already, as in a notebook that loads the champion: that process has chosen.
        with suppress(RuntimeError):
            tensorflow.config.experimental.set_memory_growth(gpu, True)
    if tf32 is not None:
        tensorflow.config.experimental.enable_tensor_float_32_execution(tf32)
    return tensorflow


def nodes(graph: Any) -> list[Any]:
    """All of a tf.Graph, those of the functions that it calls too."""
    definition = graph.as_graph_def()
    return [*definition.node, *(node for function in definition.library.function for node in function.node_def)]


def has_half(graph: Any) -> bool:
    """Whether a part of a tf.Graph computes in 16 bits."""
    return any(value.type in HALVES for node in nodes(graph) for value in node.attr.values())


def layer(names: Iterable[str]) -> str:
    """The layer in the first of these names of nodes that has one, without the name of the model; or nothing."""
    for name in names:
        *around, own = name.partition("@")[0].split("/")
        if scopes := scopes_of([part for part in around if part not in CALLS], own):
            return "/".join(scopes[1:] or scopes)
    return ""


def scopes_of(scopes: list[str], own: str) -> list[str]:
    """Where a node of this name in these scopes stands in the model, from the model's own name on.

    Keras 3 enters the scope of the model and of each layer twice, and TensorFlow numbers the second. Keras 2 called
    models `model_1` by itself.
    """
    twice = all(scope.endswith(AGAIN) for scope in scopes[:2]) and scopes[:1] != ["model_1"]
    if not (scopes and twice):
        return scopes
    between = [own] if len(scopes) == 1 else []  # an operation between layers
    return [scope.removesuffix(AGAIN) for scope in scopes] + between
