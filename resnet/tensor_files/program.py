"""What is done with a file: read from standard input, answered on standard output."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from . import CUT, RefusedError
from .formats import read


def to_json(answer: dict[str, Any]) -> bytes:
    """JSON in UTF-8; halves of characters, which no page could show, become question marks."""
    return json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace")


def main() -> None:
    file = sys.stdin.buffer
    size = os.fstat(file.fileno()).st_size
    try:
        answer = to_json(read(file, size))
    except RefusedError as refusal:
        answer = to_json({"refused": str(refusal)})
    except MemoryError:
        raise
    except Exception:  # a damaged file can fail in any line that reads it
        answer = to_json({"refused": CUT})
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    os._exit(0)  # what is left may be nested too deep to be let go one by one
