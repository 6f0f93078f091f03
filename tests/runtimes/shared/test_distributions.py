import re
import subprocess
import sys

from stages.runtimes import registry
from stages.runtimes.shared import distributions


def test_a_version_is_that_of_the_distribution_and_none_of_what_is_missing() -> None:
    assert re.match(r"\d+\.\d+", str(distributions.version("numpy")))
    assert distributions.version("no-such-distribution") is None
    assert distributions.versions("no-such-distribution", "numpy").keys() == {"numpy"}
    assert distributions.python() == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_no_runtime_imports_a_library_to_tell_of_itself_or_to_discover() -> None:
    libraries = ["tensorflow", "onnx", "onnxruntime", "ai_edge_litert", "numpy", "PIL", "pydantic", "tensorrt"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({libraries}))\n"
        "from stages.contracts.environment import Gpu, Machine\n"
        "from stages.runtimes import registry\n"
        "gpu = Gpu('a GPU', '9.0', None)\n"
        "machine = Machine('a CPU', 2, 2, 'Linux x86_64', '580.1', (gpu,), None)\n"
        "for name in registry.RUNTIMES:\n"
        "    found = registry.module(name, 'discover').discover(machine)\n"
        "    assert {*found.unavailable} == {*registry.description(name).precisions}, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert registry.RUNTIMES
