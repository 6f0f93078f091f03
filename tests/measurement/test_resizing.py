from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from stages.contracts.images import EVALUATION, TABLE
from stages.contracts.messages import Probed, ProbeOrder
from stages.core import files
from stages.measurement import resizing
from tests.fixtures.records import PREPARED


class FakeClient:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.orders: list[ProbeOrder] = []

    def ask(self, verb: str, order: ProbeOrder, kind: object) -> Probed:
        assert (verb, kind) == ("probe", Probed)
        self.orders.append(order)
        return Probed({way: [1.0] for way in order.ways})


@pytest.mark.parametrize(("images", "step"), [(20, 1), (64, 1), (65, 2), (1000, 16)])
@pytest.mark.usefixtures("checkout")
def test_the_sample_is_spread_over_all_images(images: int, step: int) -> None:
    files.write_csv(EVALUATION / TABLE, ("file", "label"), [("a.png", 0)] * images)
    Image.new("RGB", (4, 4)).save(EVALUATION / "a.png")
    client: Any = FakeClient()
    found = resizing.ask(client, PREPARED, 8)
    (order,) = client.orders
    assert (order.step, order.batch_size, found.step) == (step, 8, step)
    assert len(range(0, images, step)) <= resizing.MOST_IMAGES
    assert found.here == PREPARED.arithmetic and list(found.top1) == list(order.ways)


def test_what_is_done_here_is_no_other_way() -> None:
    names = ["nearest, by Pillow", "bilinear without antialiasing, by Pillow", "bilinear with antialiasing, by Pillow"]
    assert list(resizing.ways(PREPARED, turned=False)) == names
    smooth = replace(PREPARED, method="bilinear", antialias=False, library="tensorflow")
    assert len(resizing.ways(smooth, turned=False)) == 3
    assert len(resizing.ways(replace(PREPARED, method="lanczos"), turned=False)) == 4


@pytest.mark.parametrize(("orientation", "words"), [(True, "as it is stored"), (False, "turned as its EXIF tag says")])
def test_where_a_tag_turns_an_image_the_other_way_is_tried(orientation: bool, words: str) -> None:
    found = resizing.ways(replace(PREPARED, orientation=orientation), turned=True)
    (name,) = [name for name in found if words in name]
    assert found[name] == replace(PREPARED, orientation=not orientation)
