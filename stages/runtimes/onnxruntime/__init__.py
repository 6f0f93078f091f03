"""ONNX Runtime: the exported graph as it is, on the GPU or the CPU, or on the CPU with INT8 in it as Q/DQ pairs."""

from ..description import Description, Servers
from .options import Options

DESCRIPTION = Description(
    name="onnxruntime",
    precisions=("fp32", "int8"),
    starts_from="onnx",
    options=Options,
    requires=(("onnxruntime-gpu[cuda,cudnn]", "nvidia-ml-py"), ("onnxruntime",)),
    servers=Servers(triton="onnxruntime_onnx"),
    qat=True,
    uses_gpu=True,
    lock="onnxruntime",
    gpu_lock="onnxruntime-gpu",
)
