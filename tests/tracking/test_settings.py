from collections.abc import Callable

from stages.params import document
from stages.tracking import settings
from tests.fixtures.params import CUSTOM
from tests.fixtures.summaries import row, summary

Edit = Callable[..., None]


def test_nested_parameters_become_dotted_names() -> None:
    assert settings.flat({"a": {"b": 1, "c": {"d": None}}, "e": (1, 8), "f": []}) == {
        "a.b": 1,
        "a.c.d": None,
        "e": "1,8",
        "f": "",
    }


def test_a_pipeline_shows_what_is_set_and_was_read(edit: Edit) -> None:
    edit(("budget.max_size_bytes", 9), ("variants", ["savedmodel-fp32", "tflite-int8"]))
    shown = settings.of_pipeline(document.check(), summary())
    assert (shown["variants"], shown["budget.max_size_bytes"]) == ("savedmodel-fp32,tflite-int8", 9)
    assert shown["evaluation.digest"] == "e" * 64
    blocks = {name.partition(".")[0] for name in shown}
    assert not blocks & {"custom", "split", "train", "qat", "tflite", "tracking"}
    assert not {"model.path", "budget.max_p99_ms"} & shown.keys()


def test_a_variant_shows_the_options_of_its_own_runtime(edit: Edit) -> None:
    edit(*CUSTOM)
    shown = settings.of_variant(document.check(), row("tflite-int8"))
    assert (shown["variant"], shown["tflite.xnnpack"], shown["custom.answers"]) == (
        "tflite-int8",
        True,
        "probabilities",
    )
    assert not any(name.startswith(("onnxruntime", "tensorrt")) for name in shown)


def test_no_more_than_30_are_shown_and_those_of_the_variant_are_among_them(edit: Edit) -> None:
    edit(*CUSTOM, ("custom.size", [8, 8]), ("custom.channels", "bgr"), ("custom.scale", 1), ("custom.mean", 2))
    edit(("custom.std", 3), ("custom.input", "a"), ("custom.output", "b"), ("split.source", "photos"))
    shown = settings.of_variant(document.check(), row("tensorrt-int8"))
    assert len(shown) == 30
    assert {"variant", "tensorrt.engines", "model.path", "evaluation.source", "select.objective"} <= shown.keys()
