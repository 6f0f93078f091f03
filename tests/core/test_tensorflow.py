"""What a real TensorFlow says of its settings: in fresh processes, since they cannot be changed once it computes."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from stages.core import gpu, isolate
from stages.core.tensorflow import has_half, tensorflow
from stages.core.tensorflow import layer as layer_of


@dataclass(frozen=True)
class Facts:
    """Of one process, after its first operation."""

    threads: int
    tf32: bool
    log_level: str
    # Whether the memory of each GPU grows, and the bytes in use on the first.
    growing: tuple[bool, ...]
    gpu_bytes: int | None


def facts(threads: int | None, tf32: bool) -> Facts:
    tf = tensorflow(threads, tf32)
    config = tf.config
    growing = [bool(config.experimental.get_memory_growth(device)) for device in config.list_physical_devices("GPU")]
    float(tf.reduce_sum(tf.ones([64, 64])))
    assert tensorflow() is tf  # again, in a process that uses its devices already, as a notebook does
    # Who asks without a word about it changes nothing.
    enabled = bool(config.experimental.tensor_float_32_execution_enabled())
    count = config.threading.get_intra_op_parallelism_threads()
    return Facts(count, enabled, os.environ["TF_CPP_MIN_LOG_LEVEL"], tuple(growing), nvml_bytes()[0])


@pytest.mark.parametrize(("threads", "tf32"), [(2, False), (None, True)])
def test_threads_and_tf32_are_set_before_anything_computes(threads: int | None, tf32: bool) -> None:
    found = isolate.call(facts, threads, tf32)
    assert (found.threads, found.tf32, found.log_level) == (threads or 0, tf32, "3")


@pytest.mark.parametrize(("kind", "half"), [("float32", False), ("float16", True), ("bfloat16", True)])
def test_a_graph_tells_whether_it_computes_in_16_bits(tf: Any, kind: str, half: bool) -> None:
    function = tf.function(lambda x: tf.cast(tf.cast(x, kind) * 2, tf.float32))
    assert has_half(function.get_concrete_function(tf.TensorSpec([None], tf.float32)).graph) == half


def test_the_module_imports_no_tensorflow() -> None:
    code = "import sys, stages.core.tensorflow; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def nvml_bytes() -> tuple[int | None, int | None]:
    """In use and in all on the first GPU; None where there is none."""
    with gpu.first_gpu() as first:
        return (first.used_bytes(), first.describe().memory_bytes) if first else (None, None)


@pytest.mark.gpu
@pytest.mark.skipif(nvml_bytes()[1] is None, reason="no NVIDIA GPU whose memory is known")
def test_memory_of_every_gpu_grows_as_it_is_needed() -> None:
    before, total = nvml_bytes()
    found = isolate.call(facts, None, True)
    if not found.growing:
        pytest.skip("this TensorFlow sees no GPU")
    assert all(found.growing)
    # Without growth TensorFlow takes nearly all at once.
    assert before is not None and total is not None and found.gpu_bytes is not None
    assert found.gpu_bytes - before < total / 4


@pytest.mark.parametrize(
    ("names", "layer"),
    [
        (["model_1/wide/Conv2D@__inference_serve_1"], "wide"),
        (["TensorArrayV2_1@__inference_standard_lstm_8", "model/lstm/PartitionedCall@__inference_serve_8"], "lstm"),
        (["model/backbone/block/conv/Conv2D"], "backbone/block/conv"),
        (["StatefulPartitionedCall/model/conv/Conv2D"], "conv"),
        (["conv/Conv2D"], "conv"),
        (["functional_1/conv_1/convolution"], "conv"),
        (["functional_1/conv_1_1/convolution"], "conv_1"),
        (["functional_1/backbone_1/norm_1/moments/mean"], "backbone/norm/moments"),
        (["functional_1/truediv"], "truediv"),
        (["model/conv_1/Conv2D"], "conv_1"),
        (["model_1/conv/Conv2D"], "conv"),
        (["model_1/conv_1/Conv2D"], "conv_1"),
        (["Conv2D@__inference_serve", "StatefulPartitionedCall@__inference_signature"], ""),
        ([], ""),
    ],
)
def test_a_layer_is_told_by_the_names_of_its_nodes(names: list[str], layer: str) -> None:
    assert layer_of(names) == layer
