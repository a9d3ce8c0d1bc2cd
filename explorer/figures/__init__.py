"""Figures: Plotly, one file a subject."""
