"""Panels of the architecture page."""
