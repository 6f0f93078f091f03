"""The variables by which libraries set their threads, kernels and memory: other ones give other figures."""

import re
from collections.abc import Mapping

# All that these libraries take: OpenMP of GCC, LLVM and Intel, BLAS, oneDNN, the runtimes' own, glibc's memory.
FAMILIES = (
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_NUM_THREADS", "BLIS_", "VECLIB_", "DNNL_", "ONEDNN_", "ORT_",
    "XNNPACK_", "TFLITE_", "XLA_FLAGS", "TRT_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "MALLOC_", "TCMALLOC_",
    "GLIBC_TUNABLES",
)  # fmt: skip
# Of TensorFlow and CUDA, whose prefixes others use too (Terraform's TF_VAR_..., folders in CUDA_HOME). Which GPUs are
# visible, the machine's own record tells.
NAMES = re.compile(
    r"TF_(NUM|ENABLE|DISABLE|XLA|CPU|GPU|CUDNN|CUBLAS|FORCE|OVERRIDE|AUTOTUNE|TRT|ONEDNN|MKL|USE|DETERMINISTIC|"
    r"CUDA|MLIR|TENSORRT)\w*"
    r"|CUDA_(LAUNCH_BLOCKING|MODULE_LOADING|DEVICE_MAX_CONNECTIONS|DEVICE_ORDER|CACHE_\w+|FORCE_\w+|DISABLE_\w+|AUTO_BOOST)"
)
# The pipeline's own, which say where things lie, have TensorRT's prefix.
OURS = "TRT_PIPELINE_"
PRELOADED = "LD_PRELOAD"
# What such a value looks like; anything else may be a secret, and so may what is called one.
PLAIN = re.compile(r"[\w.,:;=+\-*/{}() ]{0,200}")
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
KEPT_BACK = "set, and not recorded"


def speed_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that are set, by name; of preloaded libraries the names of their files."""
    others = (name for name in environ if not name.startswith(OURS))
    names = sorted(name for name in others if name.startswith(FAMILIES) or NAMES.fullmatch(name))
    found = {name: _shown(name, environ[name]) for name in names}
    return found | ({PRELOADED: _libraries(environ[PRELOADED])} if environ.get(PRELOADED) else {})


def _shown(name: str, value: str) -> str:
    return value if PLAIN.fullmatch(value) and not SECRET.search(name) else KEPT_BACK


def _libraries(value: str) -> str:
    """Without their folders, which tell of the user and change no figure."""
    return " ".join(path.rpartition("/")[2] for path in re.split(r"[\s:]+", value) if path)
