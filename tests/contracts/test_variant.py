import pytest

from stages.contracts.variant import Variant
from stages.runtimes.registry import known, valid


def test_a_name_is_a_runtime_a_precision_and_whether_it_was_trained_for() -> None:
    assert Variant.parse("tftrt-fp16") == Variant("tftrt", "fp16", qat=False)
    assert Variant.parse("tflite-int8") == Variant("tflite", "int8", qat=False)
    assert Variant.parse("tflite-int8-qat") == Variant("tflite", "int8", qat=True)
    assert [name for name in valid() if Variant.parse(name).qat] == [
        "tflite-int8-qat", "onnxruntime-int8-qat", "tensorrt-int8-qat"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["tftrt-int8-qat", "tflite-fp16-qat", "tflite-qat", "tflite", "savedmodel-int8"])
def test_what_no_runtime_has_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown variant '{name}'; valid variants are .*tflite-int8-qat"):
        known(name)


@pytest.mark.parametrize(
    "name", ["tflite", "tflite-", "-int8", "tflite-int8-other", "", "../up-fp32", "a/b-fp32", "TFLite-int8"]
)
def test_what_has_no_such_form_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="its form is RUNTIME-PRECISION"):
        Variant.parse(name)


@pytest.mark.parametrize("name", valid())
def test_a_name_survives_the_trip(name: str) -> None:
    assert Variant.parse(name).name == name
