"""What every form of a network may answer."""

from __future__ import annotations

from resnet.errors import ExplainedError


class ExportError(ExplainedError, ValueError):
    """A network that does not exist in the form asked for, in a sentence."""
