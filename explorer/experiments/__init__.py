"""Experiments with networks of their own."""
