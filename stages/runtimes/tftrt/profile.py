"""Which steps of TF-TRT's op run in a call, by TensorFlow's profiler."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# What TF-TRT's op calls its steps: its engine answers, or TensorFlow does, or somebody waits for a build.
ENGINE = "TRTEngineOp::ExecuteTrtEngine"
FALLBACKS = {"TRTEngineOp::ExecuteNativeSegment", "TRTEngineOp::BuildEngine"}


def steps(tf: ModuleType, call: Callable[[], object]) -> set[str]:
    """Names of the steps that the profiler sees on the host during one call."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    host_only = tf.profiler.experimental.ProfilerOptions(
        host_tracer_level=2, python_tracer_level=0, device_tracer_level=0
    )
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder, host_only):
            call()
        (trace,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    return {event.name.partition("#")[0] for plane in space.planes for event in plane.event_metadata.values()}
