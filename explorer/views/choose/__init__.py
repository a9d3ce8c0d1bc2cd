"""Panels of the page Choose."""
