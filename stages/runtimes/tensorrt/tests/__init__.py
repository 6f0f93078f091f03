"""Tests of the runtime `tensorrt`."""
