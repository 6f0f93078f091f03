import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.contracts import zoo
from stages.contracts.variant import BASELINE
from stages.core.errors import PipelineError
from stages.params import document
from stages.runtimes.registry import VALID

Edit = Callable[..., None]


def refusal(text: str | None = None) -> str:
    if text is not None:
        Path("params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(PipelineError) as caught:
        document.load()
    return str(caught.value)


def test_the_shipped_file_loads(checkout: Path) -> None:
    setting = document.load()
    assert setting.model.name == "efficientnet_lite0"
    assert setting.benchmark.batch_sizes == (1, 8)
    assert setting.benchmark.threads is None
    assert setting.variants[0] == BASELINE.name


def test_options_are_the_block_of_one_runtime(checkout: Path) -> None:
    assert document.load().options("tflite") == {"xnnpack": True}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("engine", "dask", "it should be 'local' or 'ray'"),
        ("retries", -1, "it should be greater than or equal to 0"),
        ("retries", "2", "it should be a valid integer"),
        ("gpu_model", "", "it should not be empty"),
        (
            "images",
            "photos",
            "it should be a whole path, or an address such as s3://bucket/photos: nodes have no checkout",
        ),
        (
            "images",
            "s3://",
            "it should be a whole path, or an address such as s3://bucket/photos: nodes have no checkout",
        ),
    ],
)  # fmt: skip
def test_an_execution_that_cannot_be_is_refused(edit: Edit, key: str, value: Any, allowed: str) -> None:
    edit((f"execution.{key}", value))
    assert refusal() == f"params.yaml: `execution.{key}` is {json.dumps(value)}: {allowed}"


def test_credentials_in_an_address_are_refused_and_not_repeated(edit: Edit) -> None:
    edit(("execution.images", "s3://key:secret@bucket/photos"))
    assert refusal() == (
        'params.yaml: `execution.images` is "s3://***@bucket/photos": it should hold no credentials, since DVC and '
        "MLflow keep it: give them to the nodes"
    )


def test_images_of_a_cluster_are_a_whole_path_or_an_address(edit: Edit) -> None:
    for place in ("/mnt/photos", "s3://bucket/photos/"):
        edit(("execution.images", place))
        assert document.load().execution.images == place.rstrip("/")


def test_settings_cannot_be_changed_after_loading(checkout: Path) -> None:
    with pytest.raises(AttributeError):
        document.load().evaluation.batch_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [("modle", "`model`"), ("model.nmae", "`name`"), ("benchmark.batch_size", "`batch_sizes`")],
)
def test_an_unknown_key_suggests_the_nearest_and_lists_all(edit: Edit, key: str, suggestion: str) -> None:
    edit((key, "x"))
    message = refusal()
    assert f"params.yaml: `{key}` is not a known key; did you mean {suggestion}? known keys there: " in message


def test_an_unknown_key_without_a_near_one_lists_the_keys_of_its_block(edit: Edit) -> None:
    edit(("calibration.zzz", 1))
    assert refusal() == "params.yaml: `calibration.zzz` is not a known key; known keys there: source, images, seed"


def test_a_number_that_yaml_takes_for_text_says_how_to_write_it(checkout: Path) -> None:
    shipped = Path("params.yaml").read_text(encoding="utf-8")
    message = refusal(shipped.replace("max_size_bytes: null", "max_size_bytes: 1e7"))
    assert message.startswith('params.yaml: `budget.max_size_bytes` is "1e7": it should be a valid integer')
    assert message.endswith("; YAML takes 1e7 for text: write all its digits")


def test_a_missing_key_is_named(edit: Edit) -> None:
    edit(("evaluation", {"source": "sample"}))
    assert refusal() == "params.yaml: the key `evaluation.batch_size` is missing"


@pytest.mark.parametrize(
    ("key", "value", "shown", "allowed"),
    [
        ("evaluation.batch_size", "8", '"8"', "a valid integer"),
        ("evaluation.batch_size", True, "true", "a valid integer"),
        ("evaluation.batch_size", 1.5, "1.5", "a valid integer"),
        ("evaluation.batch_size", None, "null", "a valid integer"),
        ("evaluation.batch_size", 0, "0", "greater than or equal to 1"),
        ("evaluation.batch_size", -1, "-1", "greater than or equal to 1"),
        ("evaluation.batch_size", float("nan"), "NaN", "a valid integer"),
        ("calibration.seed", -1, "-1", "greater than or equal to 0"),
        ("calibration.seed", 2**32, "4294967296", "less than 4294967296"),
        ("benchmark.min_seconds", float("nan"), "NaN", "a finite number"),
        ("benchmark.min_seconds", float("inf"), "Infinity", "a finite number"),
        ("benchmark.min_seconds", True, "true", "a valid number"),
        ("benchmark.min_samples", 1, "1", "greater than or equal to 2"),
        ("benchmark.threads", 0, "0", "greater than or equal to 1"),
        ("tflite.xnnpack", 1, "1", "a valid boolean"),
        ("tflite.xnnpack", "yes", '"yes"', "a valid boolean"),
        ("model", ["efficientnet_lite0"], '["efficientnet_lite0"]', "a block of keys"),
        ("model", None, "null", "a block of keys"),
        ("variants", "tflite-int8", '"tflite-int8"', "a list, such as [a, b]"),
        ("benchmark.batch_sizes", 8, "8", "a list, such as [a, b]"),
    ],
)
def test_a_wrong_value_is_shown_with_what_is_allowed(
    edit: Edit, key: str, value: Any, shown: str, allowed: str
) -> None:
    edit((key, value))
    assert refusal() == f"params.yaml: `{key}` is {shown}: it should be {allowed}"


@pytest.mark.parametrize(
    ("key", "value"),
    [("variants", []), ("benchmark.batch_sizes", []), ("model.weights", ""), ("tracking.experiment", "")],
)
def test_an_empty_value_is_refused(edit: Edit, key: str, value: Any) -> None:
    edit((key, value))
    message = refusal()
    assert message.startswith(f"params.yaml: `{key}` is ")
    assert message.endswith(("it should list at least one value", "it should not be empty"))


def test_an_item_of_a_list_is_named_by_its_place(edit: Edit) -> None:
    edit(("benchmark.batch_sizes", [1, 0]))
    assert "`benchmark.batch_sizes[1]` is 0: it should be greater than or equal to 1" in refusal()


def test_every_wrong_key_is_reported_at_once(edit: Edit) -> None:
    edit(("evaluation.batch_size", 0), ("calibration.images", "x"), ("tracking.extra", 1))
    message = refusal()
    assert message.count("params.yaml:") == 3
    for key in ("evaluation.batch_size", "calibration.images", "tracking.extra"):
        assert f"`{key}`" in message


def test_an_unknown_model_suggests_and_lists_the_valid_names(edit: Edit) -> None:
    edit(("model.name", "resnet50"))
    message = refusal()
    assert "`model.name` is \"resnet50\": unknown model 'resnet50'; did you mean ResNet50 or " in message
    assert message.endswith(f"valid names are {', '.join(zoo.NAMES)}, custom")


def test_an_unknown_variant_lists_the_valid_names_and_says_nothing_else(edit: Edit) -> None:
    edit(("variants", ["tflite-int4"]))
    valid = ", ".join(VALID)
    assert refusal() == (
        f"params.yaml: `variants[0]` is \"tflite-int4\": unknown variant 'tflite-int4'; valid variants are {valid}"
    )


@pytest.mark.parametrize(
    ("key", "value", "repeated"),
    [
        ("variants", ["tflite-int8", "tflite-fp32", "tflite-int8"], "tflite-int8"),
        ("benchmark.batch_sizes", [8, 8], "8"),
    ],
)
def test_a_repeated_value_is_named(edit: Edit, key: str, value: Any, repeated: str) -> None:
    edit((key, value))
    message = refusal()
    assert f"`{key}`" in message
    assert message.endswith(f"{repeated} stands there more than once; list each value once")


@pytest.mark.parametrize("key", ["model.weights", "evaluation.source", "calibration.source"])
@pytest.mark.parametrize(
    "source",
    ["https://host/photos.zip", "http://host/photos.zip#sha256=abc", "weights==1.0", "weights==1.0#md5=" + "0" * 32],
)
def test_a_download_without_its_hash_is_refused(edit: Edit, key: str, source: str) -> None:
    edit((key, source))
    message = refusal()
    assert f'`{key}` is "{source}"' in message
    assert message.endswith("append #sha256= and the 64 hex digits `sha256sum` prints")


def test_downloads_with_a_hash_and_local_paths_are_taken(edit: Edit) -> None:
    digest = "#sha256=" + "0f" * 32
    edit(("model.weights", "weights==1.0" + digest), ("evaluation.source", "https://host/photos.zip" + digest))
    edit(("calibration.source", "~/photos"))
    assert document.load().calibration.source == "~/photos"


def test_weights_by_url_are_refused_at_the_door_since_no_stage_can_fetch_them(edit: Edit) -> None:
    edit(("model.weights", "https://host/weights.h5#sha256=" + "0" * 64))
    assert "`model.weights`" in refusal()


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "null\n"])
def test_an_empty_file_is_refused(checkout: Path, text: str) -> None:
    assert refusal(text) == "params.yaml: `the file` is null: it should be a block of keys"


def test_a_list_as_the_whole_file_is_refused(checkout: Path) -> None:
    assert refusal("- model\n") == 'params.yaml: `the file` is ["model"]: it should be a block of keys'


@pytest.mark.parametrize("text", ["model: [1\n", "model: a: b\n", "a: *nowhere\n", "\tmodel: 1\n"])
def test_invalid_yaml_is_one_line_with_the_place(checkout: Path, text: str) -> None:
    message = refusal(text)
    assert message.startswith("params.yaml is not valid YAML: ")
    assert "line 1" in message
    assert "\n" not in message


def test_a_file_that_is_not_utf8_is_refused(checkout: Path) -> None:
    Path("params.yaml").write_bytes("tracking: {experiment: né}".encode("latin-1"))
    assert refusal().startswith("params.yaml is not valid YAML: ")


@pytest.mark.parametrize("text", ["2020-01-01: 3\n", "&all [*all]\n"], ids=["date as key", "list inside itself"])
def test_yaml_that_json_cannot_hold_is_refused(checkout: Path, text: str) -> None:
    assert refusal(text).startswith("params.yaml")


def test_a_missing_file_says_how_to_restore_it(checkout: Path) -> None:
    Path("params.yaml").unlink()
    assert refusal() == "params.yaml is missing: restore it with `git checkout params.yaml`"


def test_a_key_that_stands_twice_is_refused_with_its_line(checkout: Path) -> None:
    message = refusal(Path("params.yaml").read_text() + "variants: [savedmodel-fp32]\n")
    assert message.startswith("params.yaml is not valid YAML: `variants` stands there twice")
    assert "line" in message


@pytest.mark.parametrize(("key", "value"), [("benchmark.batch_sizes", [10**23]), ("benchmark.min_seconds", 1e300)])
def test_what_could_never_end_is_refused(edit: Edit, key: str, value: Any) -> None:
    edit((key, value))
    assert "it should be less than or equal to" in refusal()


@pytest.mark.parametrize("own", ["data/evaluation", "data/model/mine.h5", "./models/../data/calibration", "models/a"])
def test_folders_that_the_pipeline_clears_are_no_place_for_your_files(checkout: Path, edit: Edit, own: str) -> None:
    for place in (own, str(checkout / own)):
        edit(("evaluation.source", place))
        with pytest.raises(PipelineError, match=r"`evaluation\.source` is .*the pipeline writes \S+/ itself"):
            document.load()
    edit(("evaluation.source", "data/holdout"))
    assert document.load().evaluation.source == "data/holdout"


def test_fewer_cached_engines_than_batch_sizes_are_refused(checkout: Path, edit: Edit) -> None:
    edit(("tftrt.maximum_cached_engines", 2), ("benchmark.batch_sizes", [1, 32]), ("evaluation.batch_size", 8))
    with pytest.raises(PipelineError) as caught:
        document.load()
    assert str(caught.value) == (
        "params.yaml: `tftrt.maximum_cached_engines` is 2, but benchmark.batch_sizes and evaluation.batch_size are "
        "3 sizes, each with an engine of its own; raise it to 3, or set null"
    )
    edit(("tftrt.dynamic_shapes", True))
    assert document.load().engine_batch_sizes() == (1, 8, 32)


OWN: tuple[tuple[str, Any], ...] = (("model.name", "custom"), ("model.path", "own.keras"))
TRAINED: tuple[tuple[str, Any], ...] = (
    ("model.name", "custom"), ("model.path", "trained"), ("split.source", "photos"), ("evaluation.source", "split"),
    ("custom.size", [28, 20]),
)  # fmt: skip


def test_a_model_of_ones_own_is_a_path_and_what_is_trained_a_word(edit: Edit) -> None:
    edit(*OWN)
    assert not document.load().trains
    assert document.load().image_sources() == {"evaluation": "sample", "calibration": "sample"}
    edit(*TRAINED)
    assert document.load().trains
    assert document.load().image_sources() == {"evaluation": "split", "calibration": "sample", "train": "split"}
    edit(("model.path", "./trained"))
    assert not document.load().trains


def test_a_variant_that_is_trained_for_int8_asks_for_training_images(edit: Edit) -> None:
    edit(*OWN, ("train.source", "photos"), ("variants", ["tflite-int8"]))
    assert not document.load().asks_qat
    edit(("variants", ["savedmodel-fp32", "tensorrt-int8-qat"]))
    assert document.load().asks_qat and not document.load().trains
    assert document.load().image_sources()["train"] == "photos"
    edit(("train.source", "split"))
    with pytest.raises(PipelineError, match=r"`train\.source` is split, but `split\.source` is null"):
        document.load()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("1/255", (1 / 255,)),
        ("1 / 127.5", (1 / 127.5,)),
        (2, (2.0,)),
        (["1/255", 0.5, -1], (1 / 255, 0.5, -1.0)),
        (None, None),
    ],
)
def test_a_scale_is_one_number_or_several_and_may_be_a_fraction(
    edit: Edit, value: Any, found: tuple[float, ...] | None
) -> None:
    edit(("custom.scale", value))
    assert document.load().custom.scale == found


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("custom.size", [0, 28], "`custom.size[0]` is 0: it should be greater than or equal to 1"),
        ("custom.size", [28], "`custom.size` is [28]: it lists too few values"),
        ("custom.size", [], "`custom.size` is []: it should list at least one value"),
        ("custom.size", [28, 28, 3], "`custom.size` is [28, 28, 3]: it lists too many values"),
        ("custom.size", 28, "`custom.size` is 28: it should be a list, such as [a, b]"),
        ("custom.size", ["a"], '`custom.size[0]` is "a": it should be a valid integer'),
        ("custom.scale", "1/0", '`custom.scale[0]` is "1/0": it should be a valid number'),
        ("custom.scale", 0, "`custom.scale` is 0: it should not be 0: all images would look alike"),
        ("custom.std", [1, 0, 1], "`custom.std` is [1, 0, 1]: it should not be 0: all images would look alike"),
        ("custom.std", [], "`custom.std` is []: it should list at least one value"),
        ("custom.mean", [1, 2, 3, 4], "`custom.mean` is [1, 2, 3, 4]: it lists too many values"),
        ("custom.mean", "gray", '`custom.mean[0]` is "gray": it should be a valid number'),
        ("custom.mean", float("nan"), "`custom.mean[0]` is NaN: it should be a finite number"),
        ("custom.mean", True, "`custom.mean[0]` is true: it should be a valid number"),
        ("custom.channels", "BGR", "`custom.channels` is \"BGR\": it should be 'rgb', 'bgr' or 'gray'"),
        ("custom.answers", "softmax", "`custom.answers` is \"softmax\": it should be 'probabilities' or 'logits'"),
        ("custom.resize", "fit", "`custom.resize` is \"fit\": it should be 'crop', 'stretch' or 'pad'"),
        ("custom.crop_fraction", 0, "`custom.crop_fraction` is 0: it should be greater than 0"),
        ("custom.other_inputs", None, "`custom.other_inputs` is null: it should be a block of keys"),
        ("custom.other_inputs", [1], "`custom.other_inputs` is [1]: it should be a block of keys"),
        ("custom.input", 3, "`custom.input` is 3: it should be a valid string"),
        ("split.evaluation", 1.0, "`split.evaluation` is 1.0: it should be less than 1"),
        ("train.validation", 0, "`train.validation` is 0: it should be greater than 0"),
        ("train.seeds", [], "`train.seeds` is []: it should list at least one value"),
        ("train.seeds", [1, 1], "`train.seeds` is [1, 1]: 1 stands there more than once; list each value once"),
        (
            "train.learning_rate",
            "3e-3",
            '`train.learning_rate` is "3e-3": it should be a valid number; YAML takes 3e-3 for text: write all its '
            "digits",
        ),
        ("train.learning_rate", 0, "`train.learning_rate` is 0: it should be greater than 0"),
        (
            "train.augment.zoom",
            1.0,
            "`train.augment.zoom` is 1.0: it should be a share from 0 to below 1: 0.01 is one percentage point",
        ),
        (
            "train.augment.shft",
            1.0,
            "`train.augment.shft` is not a known key; did you mean `shift`? known keys there: "
            "flip, rotate_degrees, shift, zoom",
        ),
    ],
)
def test_a_wrong_value_for_a_model_of_ones_own_is_said_in_one_sentence(
    edit: Edit, key: str, value: Any, said: str
) -> None:
    edit(*OWN, (key, value))
    assert refusal() == f"params.yaml: {said}"


def test_a_backbone_is_a_model_of_the_zoo_or_small(edit: Edit) -> None:
    edit(("train.backbone", "ResNet"))
    message = refusal()
    assert message.startswith("params.yaml: `train.backbone` is \"ResNet\": unknown model 'ResNet'; did you mean Res")
    assert message.endswith(f"valid names are small, {', '.join(zoo.NAMES)}")


@pytest.mark.parametrize("path", ["models/trained/model.keras", "models", "data/model/own.h5", "data/train", "reports"])
def test_a_model_where_the_pipeline_writes_is_refused(edit: Edit, path: str) -> None:
    edit(("model.name", "custom"), ("model.path", path))
    message = refusal()
    assert message.startswith(f'params.yaml: `model.path` is "{path}": the pipeline writes ')
    assert message.endswith(" itself and clears it first; keep your own files elsewhere")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            (*OWN, ("model.path", None)),
            "`model.name` is custom, but `model.path` is null; set it to a SavedModel folder, a .keras, .h5 or .onnx "
            "file, or to trained for what the stage `train` makes",
        ),
        (
            (("model.path", "own.keras"),),
            "`model.path` is own.keras, but `model.name` is efficientnet_lite0; set the name to custom, or the path "
            "to null",
        ),
        (
            (*TRAINED, ("split.source", None)),
            "`evaluation.source` and `train.source` is split, but `split.source` is null; set it to labelled images",
        ),
        (
            (("calibration.source", "split"),),
            "`calibration.source` is split, but `split.source` is null; set it to labelled images",
        ),
        (
            (*TRAINED, ("evaluation.source", "photos")),
            "`train.source` is split, but `evaluation.source` is not, so that a part of the images would be used for "
            "nothing; set evaluation.source to split, or train.source to the images",
        ),
        (
            (*TRAINED, ("custom.size", None)),
            "`model.path` is trained, but `custom.size` is null; set [height, width] to train for",
        ),
        *(
            (
                (*TRAINED, ("train.backbone", "mobilenet_v2"), ("custom.size", None), (f"custom.{key}", value)),
                f"`custom.{key}` is set, but the backbone mobilenet_v2 takes images as it was pretrained; set null",
            )
            for key, value in (("size", [9, 9]), ("channels", "bgr"), ("scale", 1), ("mean", 0), ("std", 2))
        ),
    ],
)
def test_keys_that_contradict_each_other_are_named(edit: Edit, changes: tuple[tuple[str, Any], ...], said: str) -> None:
    edit(*changes)
    assert refusal() == f"params.yaml: {said}"


def test_train_is_not_asked_of_a_model_that_is_there(edit: Edit) -> None:
    edit(*OWN, ("train.source", "split"), ("train.backbone", "mobilenet_v2"), ("custom.size", [9, 9]))
    assert document.load().custom.size == (9, 9)


def test_batch_sizes_come_in_order(checkout: Path, edit: Edit) -> None:
    edit(("benchmark.batch_sizes", [4, 1]))
    assert document.load().benchmark.batch_sizes == (1, 4)
