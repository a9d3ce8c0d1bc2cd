"""A space of designs: a network, and the values that its options take, as one text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise, product
from math import prod
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

from resnet import OPTIONS, ConfigError, ResNetConfig, preset, preset_name, title
from resnet.options import Option, from_text, is_int, normalise, to_text
from resnet.sizes import MAX_IMAGE_SIDE

MOST_DESIGNS = 100_000
"""Of a space: as many as a search goes through in about a minute."""
LONGEST = 4000
"""Characters of a space's text."""
SIZE = "size"
"""What the text calls the image size, which is no option of the network."""
_SIDES = Option((224, 224), "Image size", "Height and width in pixels.", low=1, high=MAX_IMAGE_SIDE, least=2, most=2)
AXES: Mapping[str, Option] = MappingProxyType({**OPTIONS, SIZE: _SIDES})
"""What can take several values, each with its range: the options of a configuration, and the image size."""


@dataclass(frozen=True)
class Space:
    """A configuration, and along each axis the values that an option takes: every combination of them is a design.

    The text is words: the network that the designs start from (a preset's name, or a question mark and a link's query; without
    it ResNet-50), then `option=values`. Values are joined by commas; a number may be a range, `2..6`, or with its step,
    `32..128/32`, also inside a value of several numbers, whose combinations it stands for:
    "resnet18 layers=1..3-1..3-1..6-1..3 attention=none,se size=192,320x640". The last axis changes first.

    Raises:
        ConfigError: for what is no option or no value of it, and for a space of too many designs.
    """

    base: ResNetConfig = field(default_factory=ResNetConfig)
    axes: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def __post_init__(self) -> None:
        named = [name for name, _ in self.axes]
        for name, values in self.axes:
            if name not in AXES or named.count(name) > 1 or not values:
                raise ConfigError("space", name, f"once each, with at least one value, {', '.join(AXES)}")
        axes = (
            (name, dict.fromkeys(normalise(name, AXES[name], value) for value in values)) for name, values in self.axes
        )
        object.__setattr__(self, "axes", tuple((name, tuple(values)) for name, values in axes))
        _check_count(len(self))

    def __len__(self) -> int:
        return prod(len(values) for _, values in self.axes)

    def __reduce__(self) -> tuple[Any, ...]:
        """The text, which is shorter than the values, and read once in each process."""
        return type(self).from_text, (self.to_text(),)

    def design(self, index: int) -> tuple[ResNetConfig, tuple[int, int] | None]:
        """The configuration at a place from 0 on, and its image size (height, width), None where the space leaves it open.

        Options that are no axis follow where they must, as in `ResNetConfig.with_`.

        Raises:
            ConfigError: for a combination that cannot be built.
            IndexError: for a place outside the space.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"design {index} of {len(self)}")
        given: dict[str, Any] = {}
        for name, values in reversed(self.axes):
            index, place = divmod(index, len(values))
            given[name] = values[place]
        size = given.pop(SIZE, None)
        return (self.base.with_(**given)[0] if given else self.base), size

    def to_text(self) -> str:
        """The space as words, the same space always by the same ones."""
        base = preset_name(self.base) or f"?{urlencode(self.base.to_query())}"
        return " ".join([base, *(f"{name}={_written(name, values)}" for name, values in self.axes)])

    @classmethod
    @lru_cache(maxsize=8)
    def from_text(cls, text: str) -> Self:
        """The inverse of `to_text`.

        Raises:
            ConfigError: for anything in the text that is not accepted, and for a space of too many designs.
        """
        if len(text) > LONGEST:
            raise ConfigError("space", text, f"at most {LONGEST} characters")
        words = text.split()
        base = _network(words.pop(0)) if words and ("=" not in words[0] or words[0].startswith("?")) else ResNetConfig()
        return cls.around(base, " ".join(words))

    @classmethod
    @lru_cache(maxsize=8)
    def around(cls, base: ResNetConfig, text: str) -> Self:
        """The designs around a network, from the text of the axes alone.

        Raises:
            ConfigError: for anything in the text that is not accepted, and for a space of too many designs.
        """
        given: dict[str, list[Positions]] = {}
        for word in text.split():
            name, equals, values = word.partition("=")
            if name not in AXES or not equals or name in given:
                known = "" if equals or word in AXES else f"the network is {title(base)} already, and "
                accepted = f"{known}options with their values, such as groups=1,32, each once: {', '.join(AXES)}"
                raise ConfigError("space", word, accepted)
            given[name] = [_read(name, piece) for piece in values.split(",")]
        _check_count(
            prod(sum(prod(map(len, one)) for one in pieces) for pieces in given.values())
        )  # before they are laid out
        return cls(base, tuple((name, tuple(_laid_out(name, pieces))) for name, pieces in given.items()))


def _check_count(designs: int) -> None:
    """Let a space of so many designs through.

    Raises:
        ConfigError: for more than `MOST_DESIGNS`.
    """
    if designs > MOST_DESIGNS:
        shown = f"{designs:,}" if designs < 10**12 else "10¹² and more"
        raise ConfigError(
            "space", f"{shown} designs", f"at most {MOST_DESIGNS:,}: fewer values, or ranges in wider steps"
        )


def _network(word: str) -> ResNetConfig:
    """What the first word of a space names: a preset, or after a question mark a link's query."""
    if not word.startswith("?"):
        return preset(word)
    query = dict(parse_qsl(word[1:], keep_blank_values=True))
    return ResNetConfig.from_query(query, preset(query.pop("preset")) if "preset" in query else None)


# -- values -------------------------------------------------------------------------------

Positions = tuple[Sequence[Any], ...]
"""For each number of a value what it can be; a value that is no tuple has one position."""
_RANGE = re.compile(r"([0-9]{1,6})\.\.([0-9]{1,6})(?:/([0-9]{1,6}))?")


def _read(name: str, text: str) -> Positions:
    """What stands between two commas: a value, or ranges in the places of its numbers.

    Raises:
        ConfigError: for what is not accepted.
    """
    option = AXES[name]
    if name == SIZE:
        numbers = re.split("[x×]", text)
    elif isinstance(option.default, tuple):
        numbers = text.split(option.joint)
    elif is_int(option.default):
        numbers = [text]
    else:
        return ((from_text(name, option, text),),)
    positions = tuple(map(_numbers, numbers))
    within = name != SIZE or (
        len(positions) < 3 and all(1 <= min(one) <= max(one) <= MAX_IMAGE_SIDE for one in positions if one)
    )
    if not all(positions) or not within:
        sides = f"a side from 1 to {MAX_IMAGE_SIDE} pixels, or height × width such as 192x320"
        accepted = (
            f"{sides if name == SIZE else option.accepted}, or ranges such as 2..6 or 32..128/32 in place of numbers"
        )
        raise ConfigError(name, text, accepted)
    return positions


def _numbers(text: str) -> Sequence[int]:
    """The whole numbers that a number or a range stands for; none for other text."""
    if match := _RANGE.fullmatch(text):
        low, high, step = int(match[1]), int(match[2]), int(match[3] or 1)
        return range(low, high + 1, step) if step else ()
    return (int(text),) if re.fullmatch("[0-9]{1,9}", text) else ()


def _laid_out(name: str, pieces: Iterable[Positions]) -> Iterator[Any]:
    """The values that pieces of text stand for; the last number of a value changes first."""
    for positions in pieces:
        for numbers in product(*positions):
            if name == SIZE:
                yield numbers * 2 if len(numbers) == 1 else numbers
            else:
                yield numbers if isinstance(AXES[name].default, tuple) else numbers[0]


def _written(name: str, values: Sequence[Any]) -> str:
    """Values as `_read` reads them: in ranges where that gives the same ones in the same order, else one after another."""
    if name == SIZE:
        square = all(height == width for height, width in values)
        joint, values = "x", [(height,) if square else (height, width) for height, width in values]
    else:
        joint = AXES[name].joint
    if isinstance(AXES[name].default, tuple) or is_int(AXES[name].default):
        rows = [value if isinstance(value, tuple) else (value,) for value in values]
        positions = [list(dict.fromkeys(column)) for column in zip(*rows, strict=False)]
        in_ranges = len({*map(len, rows)}) == 1 and (len(positions) > 1 or len(values) > 2)
        if in_ranges and all(map(_even, positions)) and rows == [*product(*positions)]:
            return joint.join(map(_range_text, positions))
    return ",".join(to_text(value, joint) for value in values)


def _even(numbers: Sequence[int]) -> bool:
    """Whether numbers rise in equal steps."""
    return len({later - earlier for earlier, later in pairwise(numbers)}) < 2 and numbers[0] <= numbers[-1]


def _range_text(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    step = numbers[1] - numbers[0]
    return f"{numbers[0]}..{numbers[-1]}" + (f"/{step}" if step > 1 else "")
