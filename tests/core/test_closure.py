from pathlib import Path

from stages.core.closure import Imports


def test_a_package_that_does_more_than_say_what_it_is_for_counts_with_every_module_in_it() -> None:
    """It runs whenever one of them is imported, although none imports it by name."""
    found = set(Imports().files("stages.runtimes.tflite.session"))
    assert Path("stages/runtimes/tflite/session.py") in found
    assert Path("stages/runtimes/tflite/__init__.py") in found
    assert Path("stages/runtimes/__init__.py") not in found  # a docstring alone
    assert Path("stages/runtimes/onnxruntime/__init__.py") not in found
