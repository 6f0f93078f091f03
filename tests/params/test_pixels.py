import pytest

from stages.params import load
from stages.params.model import CustomParams
from stages.params.pixels import PRESETS, Given, Preset, Scaling, Seen
from tests.fixtures.params import Change, Edit, mistakes

BEFORE = Seen("crop", 0.875, "bicubic", True, "pillow", None, True)


def custom(edit: Edit, *changes: Change) -> CustomParams:
    edit(*changes)
    return load.read(CustomParams)


def test_what_is_left_open_is_what_was_always_done(edit: Edit) -> None:
    assert custom(edit).seen == BEFORE
    assert custom(edit).scaling == Scaling(None, None, None)


@pytest.mark.parametrize(
    ("preset", "seen"),
    [
        ("load_img", Seen("stretch", 0.875, "nearest", False, "pillow", None, False)),
        ("image_dataset_from_directory", Seen("stretch", 0.875, "bilinear", False, "tensorflow", None, False)),
        ("image_dataset_from_directory_crop", Seen("crop", 1.0, "bilinear", False, "tensorflow", None, False)),
        ("torchvision", Seen("resize-crop", 0.875, "bilinear", True, "pillow", None, False)),
        ("tf.image.resize", Seen("stretch", 0.875, "bilinear", False, "tensorflow", None, False)),
        ("opencv", Seen("stretch", 0.875, "bilinear", False, "opencv", None, True)),
    ],
)
def test_a_preset_fixes_what_a_model_sees(edit: Edit, preset: Preset, seen: Seen) -> None:
    assert custom(edit, ("custom.preset", preset)).seen == seen
    assert preset in PRESETS


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (Given(library="tensorflow"), BEFORE._replace(method="bilinear", antialias=False, library="tensorflow")),
        (Given(library="opencv"), BEFORE._replace(method="bilinear", antialias=False, library="opencv")),
        (Given(method="nearest"), BEFORE._replace(method="nearest", antialias=False)),
        (Given(method="area", library="opencv"), BEFORE._replace(method="area", library="opencv")),
        (Given(antialias=False, orientation=False), BEFORE._replace(antialias=False, orientation=False)),
    ],
)
def test_the_rest_is_what_each_library_does_by_itself(given: Given, seen: Seen) -> None:
    assert given.seen == seen


def test_a_preset_scales_where_no_key_does(edit: Edit) -> None:
    edit(("custom.preset", "torchvision"))
    assert custom(edit).scaling == Scaling((1 / 255,), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    changed = custom(edit, ("custom.mean", 0.5), ("custom.std", 0.5), ("custom.resize_side", 232))
    assert changed.scaling == Scaling((1 / 255,), (0.5,), (0.5,))
    assert changed.seen.resize_side == 232


def test_a_key_may_repeat_its_preset(edit: Edit) -> None:
    assert custom(edit, ("custom.preset", "load_img"), ("custom.resize", "stretch")).seen.method == "nearest"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ((("custom.preset", "load_img"), ("custom.resize", "crop")), {"custom.resize": "preset-contradicted"}),
        ((("custom.preset", "load_img"), ("custom.orientation", True)), {"custom.orientation": "preset-contradicted"}),
        ((("custom.preset", "keras"),), {"custom.preset": "literal-error"}),
        ((("custom.method", "nearest"), ("custom.antialias", True)), {"custom.antialias": "resize-impossible"}),
        ((("custom.method", "area"), ("custom.antialias", False)), {"custom.antialias": "resize-impossible"}),
        ((("custom.method", "lanczos"), ("custom.antialias", False)), {"custom.antialias": "resize-impossible"}),
        ((("custom.library", "opencv"), ("custom.antialias", True)), {"custom.antialias": "resize-impossible"}),
        ((("custom.resize_side", 256),), {"custom.resize_side": "resize-impossible"}),
        (
            (("custom.preset", "load_img"), ("custom.crop_fraction", 0.5)),
            {"custom.crop_fraction": "resize-impossible"},
        ),
        (
            (("custom.resize", "stretch"), ("custom.crop_fraction", 0.875)),
            {"custom.crop_fraction": "resize-impossible"},
        ),
        ((("custom.resize", "pad"), ("custom.crop_fraction", 0.5)), {"custom.crop_fraction": "resize-impossible"}),
    ],
)
def test_what_does_not_go_together_is_refused(edit: Edit, changes: tuple[Change, ...], wrong: dict[str, str]) -> None:
    edit(*changes)
    assert mistakes(lambda: load.read(CustomParams)) == wrong


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_the_whole_of_an_image_is_no_contradiction(edit: Edit, resize: str) -> None:
    assert custom(edit, ("custom.resize", resize), ("custom.crop_fraction", 1.0)).seen.resize == resize


def test_an_older_file_has_none_of_these_keys(edit: Edit, checkout: object) -> None:
    new = ("preset", "resize_side", "method", "antialias", "library", "orientation")
    values = load.values()["custom"]
    assert isinstance(values, dict)
    edit(("custom", {key: value for key, value in values.items() if key not in new} | {"resize": "crop"}))
    assert load.read(CustomParams).seen == BEFORE
