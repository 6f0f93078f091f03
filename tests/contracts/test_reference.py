from pathlib import Path

import numpy as np
import pytest

from stages.contracts import reference
from tests.fixtures.errors import assert_helps, named, refused

ANSWERS = np.array([[0.25, 0.75], [np.nan, 1]], np.float32)


def test_answers_are_read_as_they_were_written(checkout: Path) -> None:
    reference.write(ANSWERS)
    found = reference.read()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ANSWERS)
    before = reference.ANSWERS.read_bytes()
    reference.write(found)
    assert reference.ANSWERS.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"no array", "half"])
def test_a_damaged_file_is_named(checkout: Path, content: bytes | str | None) -> None:
    reference.write(ANSWERS)
    if content is None:
        reference.ANSWERS.unlink()
    else:
        whole = reference.ANSWERS.read_bytes()
        reference.ANSWERS.write_bytes(whole[:-4] if isinstance(content, str) else content)
    error = refused(reference.read)
    assert named(error, "file") == ("answers-damaged", str(reference.ANSWERS))
    assert_helps(error, str(reference.ANSWERS))


def test_an_array_of_python_objects_is_not_opened(checkout: Path) -> None:
    """What unpickles them may run anything."""
    np.save(reference.ANSWERS.with_suffix(""), np.array([{}]), allow_pickle=True)
    (reference.ANSWERS.parent / "answers.npy").exists()
    assert refused(reference.read).code == "answers-damaged"
