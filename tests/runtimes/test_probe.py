from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from stages.contracts.messages import ProbeOrder
from stages.core import files
from stages.runtimes import probe
from tests.runtimes.test_predict import PREPROCESSING, Red


@pytest.fixture
def striped(tmp_path: Path) -> Path:
    """Six images, of which every third column is as red as the class."""
    rows = []
    for index in range(6):
        image = Image.new("RGB", (12, 12))
        for column in range(1, 12, 3):
            image.paste((index, 0, 0), (column, 0, column + 1, 12))
        image.save(tmp_path / f"{index}.png")
        rows.append((f"{index}.png", index))
    files.write_csv(tmp_path / "labels.csv", ("file", "label"), rows)
    return tmp_path


def test_each_way_is_judged_on_every_image_of_the_sample(striped: Path) -> None:
    near = replace(PREPROCESSING, method="nearest", antialias=False, resize="stretch")
    ways = {"nearest": near, "area": replace(near, method="area", antialias=True)}
    found = probe.probe(Red(), ProbeOrder(str(striped), 2, 2, ways))
    # Of three columns the middle one is the nearest, and on average they are a third as red.
    assert found.top1 == {"nearest": [1.0, 1.0, 1.0], "area": [1.0, 0.0, 0.0]}


def test_an_image_is_turned_as_each_way_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 4), (9, 0, 0))
    image.paste((1, 0, 0), (0, 0, 4, 2))
    tag = Image.Exif()
    tag[0x0112] = 3
    image.save(tmp_path / "a.png", exif=tag)
    files.write_csv(tmp_path / "labels.csv", ("file", "label"), [("a.png", 1)])

    class Top(Red):
        def put(self, images: object) -> None:
            super().put(images[:, :2])  # type: ignore[index]

    stored = replace(PREPROCESSING, orientation=False)
    found = probe.probe(Top(), ProbeOrder(str(tmp_path), 1, 8, {"turned": PREPROCESSING, "stored": stored}))
    assert found.top1 == {"turned": [0.0], "stored": [1.0]}
