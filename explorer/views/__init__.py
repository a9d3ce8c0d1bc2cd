"""Streamlit pieces that several pages share."""

# Before anything is drawn: plotly takes pandas from where it is imported, in the middle of another person's import too.
import pandas  # noqa: F401
