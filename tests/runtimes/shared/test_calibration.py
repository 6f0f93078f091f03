from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stages.contracts.conversion import ConvertJob
from stages.runtimes.shared import calibration
from tests.fixtures import tiny
from tests.fixtures.errors import assert_helps, named, refused

SHAPE = (4, 4, 3)


@pytest.fixture
def job(tmp_path: Path) -> ConvertJob:
    """Five calibration images, of which each has one shade."""
    images = tiny.write_images(tmp_path / "images", *(np.full(SHAPE, 10 * index) for index in range(5)))
    return tiny.convert_job(tmp_path, tmp_path / "out", "int8", images, SHAPE)


def test_batches_are_full_and_of_every_image_that_fills_one(job: ConvertJob) -> None:
    pairs = list(calibration.batches(job, 2))
    assert [batch.shape for batch in pairs] == [(2, *SHAPE)] * 2
    singly = list(calibration.batches(job, 1))
    assert [batch.shape for batch in singly] == [(1, *SHAPE)] * 5
    np.testing.assert_array_equal(np.concatenate(pairs), np.concatenate(singly[:4]))


def test_images_become_input_by_the_preprocessing_of_the_job(job: ConvertJob) -> None:
    shades = [float(batch.mean()) for batch in calibration.batches(job, 1)]
    assert shades == pytest.approx([10 * index / 127.5 - 1 for index in range(5)], abs=1e-6)
    plain = replace(job, preprocessing=tiny.preprocessing(SHAPE, scale=1.0, offset=0.0))
    assert [float(batch.mean()) for batch in calibration.batches(plain, 1)] == [0, 10, 20, 30, 40]


def test_too_few_images_for_one_batch_are_refused_before_any_is_read(job: ConvertJob) -> None:
    error = refused(calibration.batches, job, 8)
    assert named(error, "key", "images", "batch_size") == ("calibration-too-few", "calibration.images", 5, 8)
    assert_helps(error, "calibration.images is 5")
