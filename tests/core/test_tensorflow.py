from typing import Any

import pytest

from stages.core.tensorflow import tensorflow


def gpus(monkeypatch: pytest.MonkeyPatch, grow: Any) -> Any:
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0", "GPU:1"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    return tf


def test_memory_grows_on_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    growing: list[tuple[str, bool]] = []
    tf = gpus(monkeypatch, lambda gpu, enable: growing.append((gpu, enable)))
    assert tensorflow() is tf
    assert growing == [("GPU:0", True), ("GPU:1", True)]


def test_a_process_that_uses_its_gpus_already_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    assert tensorflow() is gpus(monkeypatch, refuse)
