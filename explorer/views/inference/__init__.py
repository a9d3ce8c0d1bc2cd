"""Panels of the inference page."""
