"""Tests of the runtime `tflite`."""
