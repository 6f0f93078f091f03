"""What TensorFlow and Keras know by name, cut down to what computes and nothing else: the lists of the models' door.

`python -m tests.model.registries` writes them beside the door; a test compares.
"""

import inspect
import re
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
# Parts of TensorFlow's own interface whose functions compute.
COMPUTE = words(
    """
    __operators__ bitwise dtypes experimental.numpy image keras.activations keras.backend linalg math
    math.special nn nn.experimental quantization ragged random random.experimental sets signal sparse strings
    """
)
# And those of its top level, where it has all kinds.
TOP = words(
    """
    abs acos acosh add add_n argmax argmin argsort asin asinh atan atan2 atanh batch_to_space bitcast
    boolean_mask broadcast_to cast clip_by_global_norm clip_by_norm clip_by_value complex concat conv
    convert_to_tensor cos cosh cumsum divide dynamic_partition dynamic_stitch edit_distance einsum ensure_shape
    equal exp expand_dims extract_volume_patches eye fill floor gather gather_nd greater greater_equal
    histogram_fixed_width histogram_fixed_width_bins identity identity_n less less_equal linspace logical_and
    logical_not logical_or matmul matrix_square_root maximum meshgrid minimum multiply negative no_op norm
    not_equal one_hot ones ones_like pad parallel_stack pow range rank realdiv reduce_all reduce_any
    reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum repeat reshape reverse
    reverse_sequence roll round saturate_cast scalar_mul scatter_nd searchsorted sequence_mask shape shape_n
    sigmoid sign sin sinh size slice sort space_to_batch space_to_batch_nd split sqrt square squeeze stack
    stop_gradient strided_slice subtract tan tanh tensor_scatter_nd_add tensor_scatter_nd_max
    tensor_scatter_nd_min tensor_scatter_nd_sub tensor_scatter_nd_update tensordot tile transpose truediv
    truncatediv truncatemod tuple unique unique_with_counts unravel_index unstack where zeros zeros_like
    """
)
# They read a file, keep a state, print, or call a function that they are given.
IMPURE = re.compile(
    r".*fixed_unigram_candidate_sampler|nn\.with_space_to_batch|.*\.map_(flat_)?values|signal\.inverse_stft_window_fn|"
    r".*set_seed|.*global_generator|.*create_rng_state|experimental\.numpy\.(random|experimental).*|"
    r"keras\.backend\.(print_tensor|rnn|map_fn|foldl|foldr|switch|in_train_phase|in_test_phase|function|eval|update.*|"
    r"set_.*|get_.*|batch_.et_value|variable|placeholder|moving_average_update)"
)
# Layers that hold code, name a class or a function by itself, or are no layers.
PROGRAMS = {"Lambda", "ClassMethod", "InstanceMethod", "InstanceProperty", "Layer", "InputSpec", "DeviceWrapper"}
# Checked by what they call, not by their names.
CALLS = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer"}
KINDS = words("initializers regularizers constraints losses metrics optimizers mixed_precision")


def operations() -> set[str]:
    """All of TensorFlow that only compute."""
    tf = tensorflow()
    import importlib

    from tensorflow.python.framework import op_def_registry

    raw = {name for name in dir(tf.raw_ops) if op_def_registry.get(name)}
    modules = [importlib.import_module(f"tensorflow.python.ops.gen_{_family(name)}") for name in FAMILIES]
    found = {name for module in modules for name in dir(module) if name in raw}
    found |= {name for name in raw if MORE.fullmatch(name)}
    return {name for name in found - LESS if not LESS_PATTERN.fullmatch(name)}


def _family(name: str) -> str:
    return "stateless_random_ops_v2" if name.endswith("_v2") else f"{name}_ops"


def functions() -> set[str]:
    """Of TensorFlow's and Keras's interface, those that Keras can keep as a layer and that only compute."""
    tensorflow().keras.layers.Layer  # noqa: B018 (Keras registers its names when it is first used)
    from tensorflow.python.util import tf_export

    symbols: dict[str, Any] = tf_export._NAME_TO_SYMBOL_MAPPING
    return {
        name
        for name, symbol in symbols.items()
        if not inspect.isclass(symbol)
        and callable(symbol)
        and (hasattr(symbol, "_tf_fallback_dispatchers") or name.startswith("keras.activations."))
        and (name in TOP or name.rpartition(".")[0] in COMPUTE)
        and not IMPURE.fullmatch(name)
    } - {"keras.activations.deserialize", "keras.activations.serialize", "keras.activations.get"}


def classes() -> set[str]:
    """Of Keras: layers and what they hold."""
    keras = tensorflow().keras
    keras.layers.Layer  # noqa: B018
    from keras.src.layers import serialization
    from tensorflow.python.util import tf_export

    serialization.populate_deserializable_objects()
    layers = {name for name, kind in serialization.LOCAL.ALL_OBJECTS.items() if inspect.isclass(kind)}
    held = {
        name.rpartition(".")[2]
        for name, symbol in tf_export._NAME_TO_SYMBOL_MAPPING.items()
        if inspect.isclass(symbol) and name.startswith(tuple(f"keras.{kind}." for kind in KINDS))
    }
    from keras.src import initializers

    initializers.populate_deserializable_objects()
    held |= {name for name, kind in initializers.LOCAL.ALL_OBJECTS.items() if inspect.isclass(kind)}
    return (layers | held | _of_applications()) - PROGRAMS - CALLS


def _of_applications() -> set[str]:
    """Layers of keras.applications that are no part of keras.layers: one is found by its module, others registered."""
    from keras.src.saving import object_registration

    registered = {
        name: kind
        for name, kind in object_registration._GLOBAL_CUSTOM_OBJECTS.items()
        if kind.__module__.startswith("keras.src.applications.")
    }
    return {"LayerScale", *registered, *(kind.__name__ for kind in registered.values())}


LISTS = {"pure_operations.txt": operations, "pure_functions.txt": functions, "keras_classes.txt": classes}


if __name__ == "__main__":
    for name, found in LISTS.items():
        (ROOM / name).write_text("\n".join(sorted(found())) + "\n")
