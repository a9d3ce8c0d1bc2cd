"""What a person can set, what each value may be, and how it is written in a link.

`Option` describes one field; `normalise` checks a value against it, and
`to_text` and `from_text` are inverses on every value that `normalise` lets through.
`Settings` is the base of every class that is made of such fields.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Self

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
        self.field, self.value, self.accepted, self._shown = field, value, accepted, shown or "(empty)"
        super().__init__(self.named(field))

    def named(self, name: str) -> str:
        """The message where the field is called something else: a widget by its label."""
        return f"{plain(name)} = {self._shown} is not accepted: {self.accepted}."

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.accepted)


@dataclass(frozen=True)
class Option:
    """What one field is: for validation, and for the person who sets it.

    `choices` lists the accepted values; without it the field is a truth value, a number
    from `low` to `high`, or `least` to `most` whole numbers in that range, as its `default` is.
    `unless` says why the field does not apply to a configuration, or None where it does.
    """

    default: Any
    label: str
    help: str
    group: str = ""
    choices: tuple[Choice, ...] = ()
    low: float = 0
    high: float = 0
    least: int = 1
    most: int = 1
    unless: Callable[[Any], str | None] = lambda config: None

    @property
    def joint(self) -> str:
        """What joins several numbers in text: dots where - may be the sign of one."""
        return "." if self.low < 0 else "-"

    @property
    def accepted(self) -> str:
        """The accepted values, in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        if isinstance(self.default, bool):
            return "0 or 1"
        within = f"from {self.low:g} to {self.high:g}"
        if not isinstance(self.default, tuple):
            return f"a number {within}" if isinstance(self.default, float) else f"a whole number {within}"
        joined = f"joined by {'dots' if self.joint == '.' else self.joint}"
        if self.least == self.most:
            return f"{self.most} whole numbers {within} {joined}"
        return f"{self.least} to {self.most} of them {joined}, each a whole number {within}"


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
            and option.least <= len(value) <= option.most
            and all(is_int(v) and option.low <= v <= option.high for v in value)
        )
    kind = isinstance(value, float) if isinstance(option.default, float) else is_int(value)
    return kind and option.low <= value <= option.high


def to_text(value: Any, joint: str = "-") -> str:
    """A value as a link holds it: (3, 4, 6, 3) as 3-4-6-3, True as 1."""
    if isinstance(value, bool):
        return str(int(value))
    return joint.join(map(str, value)) if isinstance(value, tuple | list) else str(value)


_WHOLE = r"[0-9]{1,16}"
_DECIMAL = r"[0-9]{0,3}\.?[0-9]{1,20}(e-[0-9]{1,3})?"


def from_text(name: str, option: Option, text: str) -> Any:
    """The value that `to_text` wrote with the option's `joint`; a number's range is for `normalise` to check.

    Raises:
        ConfigError: for text that no value of the field's kind is written as.
    """
    named = {str(choice): choice for choice in option.choices}
    if text in named:
        return named[text]
    if not option.choices:
        if isinstance(option.default, bool) and text in ("0", "1"):
            return text == "1"
        whole = f"-?{_WHOLE}" if option.low < 0 else _WHOLE
        if isinstance(option.default, tuple) and re.fullmatch(rf"{whole}([{option.joint}]{whole})*", text):
            numbers = tuple(map(int, text.split(option.joint)))
            if _fits(option, numbers):  # else they are named as they were typed
                return numbers
        if isinstance(option.default, float) and re.fullmatch(_DECIMAL, text):
            return float(text)
        if is_int(option.default) and re.fullmatch(whole, text):
            return int(text)
    raise ConfigError(name, text, option.accepted)


# -- settings -----------------------------------------------------------------------------


def option(default: Any, label: str, help: str, group: str = "", **kind: Any) -> Any:
    """A field of `Settings`; `kind` is the rest of its `Option`."""
    return field(default=default, metadata={"option": Option(default, label, help, group, **kind)})


@dataclass(frozen=True)
class Settings:
    """What a person can set: fields that each `option` made, which fit into a link together.

    A class of them adds what is special: a default that follows from other fields (`default`), rules that concern
    several (`check`), and how older links wrote them (`renewed`).

    Raises:
        ConfigError: for a value outside its range, or values that do not go together.
    """

    key: ClassVar[str]
    """What a link calls them."""
    example: ClassVar[str]
    """A part of their text."""

    def __post_init__(self) -> None:
        for name, each in self.options().items():
            value = getattr(self, name)
            if type(value) is type(each.default) and value == each.default:
                value = self.default(name)
            object.__setattr__(self, name, normalise(name, each, value))
        self.check()

    def check(self) -> None:
        """Rules that concern more than one value.

        Raises:
            ConfigError: where one is broken.
        """

    @classmethod
    @cache
    def options(cls) -> Mapping[str, Option]:
        """Every field with its label, help and range, in order."""
        return MappingProxyType({one.name: one.metadata["option"] for one in fields(cls)})

    def default(self, name: str) -> Any:
        """The value of field `name` where none is given, or its option's default."""
        return self.options()[name].default

    def given(self) -> dict[str, Any]:
        """The fields that differ from their defaults."""
        return {name: value for name in self.options() if (value := getattr(self, name)) != self.default(name)}

    def to_text(self) -> str:
        """What differs from the default, for a link: "deep-110_seed-3"."""
        options = self.options()
        return "_".join(
            f"{_word(name)}-{_word(to_text(value, options[name].joint))}" for name, value in self.given().items()
        )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The exact inverse of `to_text`; it reads what older links hold, too.

        Raises:
            ConfigError: for anything in the text that is not accepted.
        """
        names, given = {_word(name): name for name in cls.options()}, {}
        for part in cls.renewed(text).split("_") if text else ():
            word, _, value = part.partition("-")
            name = names.get(word)
            if name is None or name in given:
                accepted = f"parts joined by _, such as {cls.example}, each of {', '.join(names)}"
                raise ConfigError(cls.key, part, f"{accepted}, once" if name else accepted)
            choices = {_word(str(choice)): str(choice) for choice in cls.options()[name].choices}
            given[name] = from_text(name, cls.options()[name], choices.get(value, value))
        return cls(**given)

    @classmethod
    def renewed(cls, text: str) -> str:
        """The text of an older link as `to_text` writes it; any other as it is."""
        return text

    def with_text(self, name: str, text: str) -> Self:
        """These with one field as a person typed it.

        Raises:
            ConfigError: for text that is not accepted.
        """
        return type(self)(**(self.given() | {name: from_text(name, self.options()[name], text.strip())}))


def _word(text: str) -> str:
    """A name or a value with dots for what would end a part, or need an escape in a link."""
    return re.sub("[_ ]", ".", text)
