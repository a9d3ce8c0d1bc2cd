"""Numbers as people read them."""

from __future__ import annotations

import re
from collections.abc import Callable


def amount(number: float) -> str:
    """25.56 M, 4.09 G, 650."""
    for unit, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.2f}{name}"
    return f"{number:,.0f}"


_UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
AN_AMOUNT = "an amount such as 5e9, 5G, 30M or 256MiB, from 1 to 1e15"


def read_amount(text: str) -> int:
    """A whole number as people write it: 5000000000, 5e9, 5 G, 256MiB.

    Raises:
        ValueError: for other text, and for what is below 1 or above 1e15.
    """
    match = re.fullmatch(r"([0-9]{1,16}(?:\.[0-9]{1,9})?(?:e[0-9]{1,2})?) ?([kMGT]|[KMG]iB)?", text.strip())
    number = float(match[1]) * _UNITS[match[2] or ""] if match else 0
    if not 1 <= number <= 1e15:
        raise ValueError(f"{text} is not {AN_AMOUNT}")
    return round(number)


def macs_text(number: float) -> str:
    """4.09 GMACs, 650 MACs."""
    return f"{amount(number)}{'' if number >= 1e3 else ' '}MACs"


def mebibytes(number: float) -> str:
    """10.7 MiB, 2.12 GiB, 3.9 KiB."""
    if 0 < number < 2**20 / 20:
        return f"{number / 2**10:.1f} KiB"
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.1f} MiB"


def seconds_text(seconds: float) -> str:
    """1,050.0 ms, 17.5 ms, 420 µs."""
    return f"{seconds * 1000:,.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def signed(difference: int | None, form: Callable[[float], str]) -> str | None:
    """+3.76 M, -0.43 G, or ±0."""
    if difference is None:
        return None
    return "±0" if difference == 0 else ("+" if difference > 0 else "-") + form(abs(difference))


def decimals(number: float, places: int = 2) -> str:
    """0.93, -0.12, and 0.00 for what rounds to it from below."""
    return f"{number:z.{places}f}"


def ratio(number: float, base: float) -> str:
    """×1.12 of the base; empty where the base is 0."""
    return f"×{number / base:.3g}" if base else ""


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def scientific(number: float) -> str:
    """Two figures: 0, 0.42, 130, 1.9·10⁻⁶, 8·10¹¹."""
    if number == 0 or 0.001 <= abs(number) < 1e5:
        return f"{float(f'{number:.2g}'):z,.4g}" if abs(number) < 1e4 else f"{float(f'{number:.2g}'):,.0f}"
    mantissa, _, exponent = f"{number:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}·10{str(int(exponent)).translate(_RAISED)}"


def power(base: int, exponent: int) -> str:
    """2¹⁶."""
    return f"{base}" + str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def count_text(count: int) -> str:
    """65,536, or 2⁶⁰⁰ for a power of two too long to read, or 4.15·10¹⁸⁰."""
    if count < 10**15:
        return f"{count:,}"
    if count == 1 << (bits := count.bit_length() - 1):
        return power(2, bits)
    digits = len(str(count)) - 1
    return f"{count / 10**digits:.2f}·{power(10, digits)}"


def choice_text(choice: str | int) -> str:
    """7×7 for 7x7, leaky relu for leaky_relu."""
    return re.sub(r"(?<=\d)x(?=\d)", "×", str(choice)).replace("_", " ")
