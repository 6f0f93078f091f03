"""Figures to words and pictures; measures nothing."""
