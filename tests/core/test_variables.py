import pytest

from stages.core.variables import KEPT_BACK, speed_variables

SPEED = {
    "OMP_NUM_THREADS": "1", "KMP_AFFINITY": "granularity=fine,compact,1,0", "MKL_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "4", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0", "TF_XLA_FLAGS": "--tf_xla_auto_jit=2", "XLA_FLAGS": "--xla_gpu_autotune_level=0",
    "NVIDIA_TF32_OVERRIDE": "0", "CUDA_LAUNCH_BLOCKING": "1", "XNNPACK_FORCE_PTHREADPOOL": "1",
    "ORT_DISABLE_ALL": "", "MALLOC_ARENA_MAX": "2", "GLIBC_TUNABLES": "glibc.malloc.trim_threshold=128",
}  # fmt: skip


def test_variables_of_speed_are_recorded_with_their_values() -> None:
    assert speed_variables(SPEED) == SPEED
    assert list(speed_variables(SPEED)) == sorted(SPEED)


@pytest.mark.parametrize(
    "name",
    ["HOME", "PATH", "TF_VAR_password", "TF_TOKEN_app", "TF_CPP_MIN_LOG_LEVEL", "CUDA_HOME", "CUDA_VISIBLE_DEVICES",
     "MLFLOW_TRACKING_URI", "AWS_SECRET_ACCESS_KEY", "NVIDIA_VISIBLE_DEVICES", "TRT_PIPELINE_ENVIRONMENTS"],
)  # fmt: skip
def test_others_are_not(name: str) -> None:
    assert speed_variables({name: "1"}) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ORT_REGISTRY", "https://user:hunter2word@host/x"),
        ("ORT_API_TOKEN", "hunter2word"),
        ("MKL_LICENSE_KEY", "hunter2word"),
        ("OMP_WORDS", "hunter2word\n\x1b[31m"),
        ("MALLOC_CONF", "hunter2word " * 30),
    ],
)
def test_a_value_that_may_be_a_secret_is_not_recorded_but_that_it_is_set(name: str, value: str) -> None:
    assert speed_variables({name: value}) == {name: KEPT_BACK}


def test_of_preloaded_libraries_the_folders_are_left_out() -> None:
    found = speed_variables({"LD_PRELOAD": "/home/ann/lib/libtcmalloc.so.4:/usr/lib/libjemalloc.so.2 libx.so"})
    assert found == {"LD_PRELOAD": "libtcmalloc.so.4 libjemalloc.so.2 libx.so"}
    assert speed_variables({"LD_PRELOAD": ""}) == {}
