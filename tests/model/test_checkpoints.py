import os
import pickle
import random
import resource
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from stages.core.errors import PipelineError
from stages.model import checkpoints
from tests.fixtures.errors import named, refused

KINDS = {"<f4": "FloatStorage", "<f8": "DoubleStorage", "<f2": "HalfStorage", "<i8": "LongStorage", "<i4": "IntStorage"}


class Storage(NamedTuple):
    key: str
    values: np.ndarray


class Tensor:
    """Pickles as a torch tensor does."""

    def __init__(self, storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, size, stride, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments  # type: ignore[attr-defined]


class Pickler(pickle.Pickler):
    def persistent_id(self, item: Any) -> Any:
        if not isinstance(item, Storage):
            return None
        kind = getattr(sys.modules["torch"], KINDS[item.values.dtype.str])
        return ("storage", kind, item.key, "cpu", len(item.values), None)


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that torch's pickles refer to."""

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    module, utils = ModuleType("torch"), ModuleType("torch._utils")
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    for kind in KINDS.values():
        setattr(module, kind, type(kind, (), {"__module__": "torch"}))
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """One GiB more than now: a damaged pickle may ask for tens, which a large machine would even grant, in a minute."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def write(path: Path, state: Any, storages: list[Storage]) -> Path:
    """Write as torch.save did before torch 1.6."""
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
            pickle.dump(part, file, protocol=2)
        Pickler(file, protocol=2).dump(state)
        pickle.dump([storage.key for storage in storages], file, protocol=2)
        for storage in storages:
            file.write(struct.pack("<q", len(storage.values)) + storage.values.tobytes())
    return path


def one(path: Path, offset: int = 0, size: tuple[int, ...] = (2, 3), stride: tuple[int, ...] = (3, 1)) -> Path:
    """A checkpoint with one tensor on a storage of six floats, 0 to 5."""
    storage = Storage("0", np.arange(6, dtype="<f4"))
    return write(path, OrderedDict(weight=Tensor(storage, offset, size, stride)), [storage])


def refusal(path: Path) -> PipelineError:
    error = refused(checkpoints.read_torch, path)
    assert error.values["file"] == path.name
    return error


def test_a_state_dict_is_read(tmp_path: Path) -> None:
    storage = Storage("94123", np.arange(6, dtype="<f4"))
    state = OrderedDict(weight=Tensor(storage, 0, (2, 3), (3, 1)))
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    found = checkpoints.read_torch(write(tmp_path / "a.pth", state, [storage]))
    assert list(found) == ["weight"]
    assert found["weight"].dtype == np.float32
    np.testing.assert_array_equal(found["weight"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("dtype", list(KINDS))
def test_every_element_type_is_read(tmp_path: Path, dtype: str) -> None:
    storage = Storage("0", np.array([1, 2, 3], dtype))
    found = checkpoints.read_torch(write(tmp_path / "a.pth", {"x": Tensor(storage, 0, (3,), (1,))}, [storage]))
    assert found["x"].dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found["x"], [1, 2, 3])


def test_views_of_one_storage_keep_their_offset_and_strides(tmp_path: Path) -> None:
    shared, other = Storage("1", np.arange(6, dtype="<f4")), Storage("0", np.array([7], "<i8"))
    state = {
        "transposed": Tensor(shared, 0, (3, 2), (1, 3)),
        "tail": Tensor(shared, 4, (2,), (1,)),
        "repeated": Tensor(shared, 1, (2, 2), (0, 1)),
        "scalar": Tensor(other, 0, (), ()),
        "empty": Tensor(shared, 0, (0, 3), (3, 1)),
    }
    found = checkpoints.read_torch(write(tmp_path / "a.pth", state, [other, shared]))
    np.testing.assert_array_equal(found["transposed"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["tail"], [4, 5])
    np.testing.assert_array_equal(found["repeated"], [[1, 2], [1, 2]])
    assert found["scalar"] == 7
    assert found["scalar"].shape == ()
    assert found["empty"].shape == (0, 3)


def test_a_read_array_may_be_changed(tmp_path: Path) -> None:
    found = checkpoints.read_torch(one(tmp_path / "a.pth"))
    found["weight"] += 1
    assert found["weight"][0, 0] == 1


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(("function", "name"), [(os.system, "posix.system"), (eval, "__builtin__.eval")])
def test_a_pickle_that_calls_is_refused_by_name_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "touch hit" if function is os.system else "open('hit', 'w')"
    attack = write(tmp_path / "a.pth", OrderedDict(weight=Call(function, code)), [])
    assert named(refusal(attack), "name") == ("checkpoint-refused", name)
    assert not Path("hit").exists()


def test_a_call_in_the_first_pickle_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").write_bytes(pickle.dumps(Call(os.system, "touch hit")))
    assert named(refusal(tmp_path / "a.pth"), "name") == ("checkpoint-refused", "posix.system")
    assert not Path("hit").exists()


def test_a_name_inside_torch_that_is_no_storage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"ctorch\nload\n.")
    assert named(refusal(tmp_path / "a.pth"), "name") == ("checkpoint-refused", "torch.load")


@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.6, 0.95])
def test_a_truncated_file_says_to_fetch_it_again(tmp_path: Path, share: float) -> None:
    whole = one(tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: int(len(whole) * share)])
    assert refusal(tmp_path / "a.pth").code == "checkpoint-damaged"


def test_a_file_that_lacks_its_last_byte_is_cut_short(tmp_path: Path) -> None:
    path = one(tmp_path / "a.pth")
    path.write_bytes(path.read_bytes()[:-1])
    refusal(path)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),
        (6, (1,), (1,)),
        (4, (2, 2), (1, 1)),
        (0, (2, 2), (5, 1)),
        (-1, (2,), (1,)),
        (0, (2**40,), (2**40,)),
    ],
    ids=["long", "behind", "offset", "stride", "before", "far"],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    assert "outside its storage" in str(refusal(one(tmp_path / "a.pth", offset, size, stride)))


def test_a_negative_stride_is_refused(tmp_path: Path) -> None:
    assert "outside its storage" in str(refusal(one(tmp_path / "a.pth", 5, (6,), (-1,))))


@pytest.mark.parametrize("size", [(-1,), (2, -3)])
def test_a_negative_size_is_refused(tmp_path: Path, size: tuple[int, ...]) -> None:
    refusal(one(tmp_path / "a.pth", 0, size, (1,) * len(size)))


@pytest.mark.parametrize("count", [-1, 2**40, 2**62], ids=["negative", "terabytes", "more than an index holds"])
def test_a_storage_with_an_absurd_length_is_refused(tmp_path: Path, count: int) -> None:
    path = one(tmp_path / "a.pth")
    path.write_bytes(path.read_bytes()[:-32] + struct.pack("<q", count) + bytes(24))
    assert refusal(path).code == "checkpoint-damaged"


def test_a_tensor_of_more_elements_than_memory_is_refused(tmp_path: Path) -> None:
    refusal(one(tmp_path / "a.pth", 0, (2**50,), (0,)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 the layout of torch 1.6 and later",
        pickle.dumps({"weight": 1}),
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x8e" + b"\xff" * 8,
        b"\x95" + b"\xff" * 8,
    ],
    ids=["empty", "zip", "another pickle", "huge memo", "huge bytes", "huge frame"],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    assert refusal(tmp_path / "a.pth").code == "checkpoint-damaged"


def test_random_bytes_are_refused_whatever_they_are(tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(500):
        (tmp_path / "a.pth").write_bytes(b"\x80\x02" * chance.randrange(2) + chance.randbytes(60))
        refusal(tmp_path / "a.pth")


def test_a_state_dict_of_other_things_than_tensors_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path / "a.pth", {"epoch": 3}, [])).code == "checkpoint-damaged"
