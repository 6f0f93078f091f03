import pytest

from stages.common import variants
from stages.common.variants import Variant


def test_a_name_is_a_runtime_a_precision_and_whether_it_was_trained_for() -> None:
    assert variants.parse("tftrt-fp16") == Variant("tftrt", "fp16", qat=False)
    assert variants.parse("tflite-int8") == Variant("tflite", "int8", qat=False)
    assert variants.parse("tflite-int8-qat") == Variant("tflite", "int8", qat=True)
    assert [name for name in variants.VALID if variants.parse(name).qat] == [
        "tflite-int8-qat", "onnxruntime-int8-qat", "tensorrt-int8-qat"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["tftrt-int8-qat", "tflite-fp16-qat", "tflite-qat", "tflite", "savedmodel-int8"])
def test_what_no_runtime_has_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown variant '{name}'; valid variants are .*tflite-int8-qat"):
        variants.parse(name)
