"""Asks runtimes and keeps their answers raw; knows no statistics."""
