"""Tests of the runtime `onnxruntime`."""
