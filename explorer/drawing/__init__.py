"""Drawings: SVG, DOT, rasters."""
