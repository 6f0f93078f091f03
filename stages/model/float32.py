"""Rebuilds Keras models of another precision in FP32, with their weights: the targets want no other."""

from types import ModuleType
from typing import TYPE_CHECKING

from pydantic import JsonValue

if TYPE_CHECKING:
    from keras import Model as Network

# As policies of layers and types of tensors. Variables are of FP32 where a policy is mixed.
OTHERS = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")
FLOAT32 = "float32"


def others(config: JsonValue) -> tuple[str, ...]:
    """The precisions but FP32 that a description names, in alphabetical order."""
    if isinstance(config, dict):
        found = {str(value) for key, value in config.items() if _is_other(config, key)}
        return tuple(sorted(found.union(*map(others, config.values()))))
    return tuple(sorted(set().union(*map(others, config)))) if isinstance(config, list) else ()


def rebuilt(tf: ModuleType, network: "Network", trusted: bool) -> "Network":
    """The same network in FP32, with its weights."""
    config = _in_float32(tf.keras.utils.serialize_keras_object(network))
    wide: Network = tf.keras.utils.deserialize_keras_object(config, safe_mode=not trusted)
    wide.set_weights(network.get_weights())
    return wide


def told(config: JsonValue) -> tuple[str, ...]:
    """A sentence of what was changed, or none."""
    found = others(config)
    return (f"its layers that compute in {', '.join(found)} are rebuilt to compute in float32",) if found else ()


def _in_float32(config: JsonValue) -> JsonValue:
    if isinstance(config, dict):
        return {key: FLOAT32 if _is_other(config, key) else _in_float32(value) for key, value in config.items()}
    return [_in_float32(part) for part in config] if isinstance(config, list) else config


def _is_other(config: dict[str, JsonValue], key: str) -> bool:
    """A type by itself, or the name of a policy, which has nothing else."""
    return config[key] in OTHERS and (key == "dtype" or (key == "name" and len(config) == 1))
