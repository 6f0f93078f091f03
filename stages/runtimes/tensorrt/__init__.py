"""Native TensorRT: engines built from the ONNX graph with its precision typed into it, run without TensorFlow."""

from ..description import Description, Servers
from ..shared.tensorrt_wheels import CUDA_BINDINGS, WHEELS
from .options import Options


def _with_libraries(wheel: str) -> tuple[str, ...]:
    libraries = (wheel.replace("bindings", "libs"),) if "bindings" in wheel else ()
    return wheel, *libraries, CUDA_BINDINGS


DESCRIPTION = Description(
    name="tensorrt",
    precisions=("fp32", "fp16", "int8"),
    starts_from="onnx",
    options=Options,
    requires=tuple(_with_libraries(wheel) for wheel in WHEELS),
    servers=Servers(triton="tensorrt_plan"),
    qat=True,
    uses_gpu=True,
    # 8.5, the newest whose libraries are whole on PyPI: those of 10 and 11 come from an index of NVIDIA's own.
    gpu_lock="tensorrt",
)
