"""Tests of the runtime `savedmodel`."""
