"""What a field of a configuration may hold, and how it is written in a link.

`Option` describes one field; `normalise` checks a value against it, and
`to_text` and `from_text` are inverses on every value that `normalise` lets through.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import ExplainedError

Choice = str | int


def plain(text: object, most: int = 40) -> str:
    """Text from outside for a sentence, cut to `most` characters.

    What a terminal or a page would obey instead of showing it is written as Python escapes it: control characters,
    ends of lines, marks that are invisible or change the direction of writing, halves of characters.
    """
    shown = "".join(char if _shows(char) else ascii(char)[1:-1] for char in str(text)[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _shows(char: str) -> bool:
    """Whether a character is a letter, a mark, a number, a sign or a space on the line."""
    return char.isprintable() or unicodedata.category(char) == "Zs"


class ConfigError(ExplainedError, ValueError):
    """A configuration that cannot exist, in one sentence.

    The message names the `field`, the `value` that was given and what is
    `accepted`; the three are also kept as attributes.
    """

    def __init__(self, field: str, value: object, accepted: str):
        try:
            shown = plain(value if isinstance(value, str) else to_text(value))
        except ValueError:  # Python writes no whole number of more than 4300 digits
            shown = "a number of thousands of digits"
        super().__init__(f"{plain(field)} = {shown or '(empty)'} is not accepted: {accepted}.")
        self.field, self.value, self.accepted = field, value, accepted

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.accepted)


@dataclass(frozen=True)
class Option:
    """What one field is: for validation, and for the person who sets it.

    `choices` lists the accepted values; without it the field is a truth value, a number
    from `low` to `high`, or up to `most` whole numbers in that range, as its `default` is.
    `unless` says why the field does not apply to a configuration, or None where it does.
    """

    default: Any
    label: str
    help: str
    group: str
    choices: tuple[Choice, ...] = ()
    low: float = 0
    high: float = 0
    most: int = 1
    unless: Callable[[Any], str | None] = lambda config: None

    @property
    def accepted(self) -> str:
        """The accepted values, in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if isinstance(self.default, bool):
            return "0 or 1"
        kind = "a number" if isinstance(self.default, float) else "a whole number"
        each = f"{kind} from {self.low:g} to {self.high:g}"
        return f"1 to {self.most} of them joined by -, each {each}" if isinstance(self.default, tuple) else each


def normalise(name: str, option: Option, value: Any) -> Any:
    """The value in its field's own type (a list becomes a tuple, a whole number a float).

    Raises:
        ConfigError: for a value of another kind or outside the range.
    """
    if isinstance(option.default, tuple) and isinstance(value, list):
        value = tuple(value)
    if isinstance(option.default, float) and is_int(value) and option.low <= value <= option.high:
        value = float(value)
    if not _fits(option, value):
        raise ConfigError(name, value, option.accepted)
    return value


def is_int(value: object) -> bool:
    """Whether this is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _fits(option: Option, value: Any) -> bool:
    if option.choices:
        return not isinstance(value, bool) and isinstance(value, str | int) and value in option.choices
    if isinstance(option.default, bool):
        return isinstance(value, bool)
    if isinstance(option.default, tuple):
        return (
            isinstance(value, tuple)
            and 1 <= len(value) <= option.most
            and all(is_int(v) and option.low <= v <= option.high for v in value)
        )
    kind = isinstance(value, float) if isinstance(option.default, float) else is_int(value)
    return kind and option.low <= value <= option.high


def to_text(value: Any) -> str:
    """A value as a link holds it: (3, 4, 6, 3) as 3-4-6-3, True as 1."""
    if isinstance(value, bool):
        return str(int(value))
    return "-".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


_WHOLE = r"[0-9]{1,9}"
_DECIMAL = r"[0-9]{0,3}\.?[0-9]{1,20}(e-[0-9]{1,3})?"


def from_text(name: str, option: Option, text: str) -> Any:
    """The value that `to_text` wrote; its range is for `normalise` to check.

    Raises:
        ConfigError: for text that no value of the field's kind is written as.
    """
    named = {str(choice): choice for choice in option.choices}
    if text in named:
        return named[text]
    if not option.choices:
        if isinstance(option.default, bool) and text in ("0", "1"):
            return text == "1"
        if isinstance(option.default, tuple) and re.fullmatch(rf"{_WHOLE}(-{_WHOLE})*", text):
            return tuple(map(int, text.split("-")))
        if isinstance(option.default, float) and re.fullmatch(_DECIMAL, text):
            return float(text)
        if is_int(option.default) and re.fullmatch(_WHOLE, text):
            return int(text)
    raise ConfigError(name, text, option.accepted)
