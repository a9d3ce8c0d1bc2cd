"""Panels of the experiments page."""
