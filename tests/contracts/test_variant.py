import pytest

from stages.contracts.variant import Variant, title
from stages.runtimes.registry import known, valid


def test_a_name_is_a_runtime_a_precision_and_whether_it_was_trained_for() -> None:
    assert Variant.parse("tftrt-fp16") == Variant("tftrt", "fp16", qat=False)
    assert Variant.parse("tflite-int8") == Variant("tflite", "int8", qat=False)
    assert Variant.parse("tflite-int8-qat") == Variant("tflite", "int8", qat=True)
    assert [name for name in valid() if Variant.parse(name).qat and not Variant.parse(name).version] == [
        "tflite-int8-qat", "onnxruntime-int8-qat", "tensorrt-int8-qat"
    ]  # fmt: skip


def test_a_runtime_may_be_followed_by_another_of_its_locks() -> None:
    found = Variant.parse("onnxruntime_1_23-int8-qat")
    assert found == Variant("onnxruntime", "int8", qat=True, version="1_23")
    assert (found.edition, title(found.edition)) == ("onnxruntime_1_23", "onnxruntime 1.23")
    assert found.post_training.name == "onnxruntime_1_23-int8"
    assert (Variant.parse("tensorrt_rtx-fp16").runtime, title("tensorrt_rtx")) == ("tensorrt", "tensorrt rtx")
    assert title(Variant.parse("tflite-int8").edition) == "tflite"
    assert {"onnxruntime_1_23-int8", "onnxruntime_1_23-int8-qat", "tensorrt_11-fp16"} <= {*valid()}
    assert not {name for name in valid() if "@" in name or "." in name}


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("onnxruntime_1_22-int8", "onnxruntime, onnxruntime_1_23"),
        ("tensorrt_9-fp16", "tensorrt, tensorrt_10, tensorrt_11, tensorrt_rtx"),
        ("tflite_2-int8", "tflite"),
    ],
)
def test_an_unknown_lock_is_refused_with_those_that_there_are(name: str, there: str) -> None:
    edition = name.partition("-")[0]
    with pytest.raises(ValueError, match=f"^unknown variant '{name}': .* no lock {edition}; those there are: {there}$"):
        known(name)


@pytest.mark.parametrize("name", ["tftrt-int8-qat", "tflite-fp16-qat", "tflite-qat", "tflite", "savedmodel-int8"])
def test_what_no_runtime_has_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(ValueError, match=f"^unknown variant '{name}'; valid variants are .*tflite-int8-qat"):
        known(name)


@pytest.mark.parametrize(
    "name",
    [
        "tflite",
        "tflite-",
        "-int8",
        "tflite-int8-other",
        "",
        "../up-fp32",
        "a/b-fp32",
        "TFLite-int8",
        "onnxruntime_-int8",
        "onnxruntime__1-int8",
        "onnxruntime_1.23-int8",
        "onnxruntime@1-int8",
    ],
)
def test_what_has_no_such_form_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="its form is RUNTIME-PRECISION"):
        Variant.parse(name)


@pytest.mark.parametrize("name", valid())
def test_a_name_survives_the_trip(name: str) -> None:
    assert Variant.parse(name).name == name
