"""Tests of the runtime `tftrt`."""
