"""Errors that a person reads have one base; commands print them and panels show them, and nothing else is hidden so."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from explorer import ImageError
from explorer.export.errors import ExportError
from explorer.inference.decode import DecodeError
from explorer.inference.turns import OutOfMemoryError, PassError, TooLargeError
from explorer.sharing.engine import EndedError, LostError
from explorer.sharing.holdings import NoRoomError
from explorer.sharing.store import StoppedError
from resnet import ConfigError, WeightsError
from resnet.command import MissingError, status
from resnet.errors import ExplainedError
from resnet.servers import DownloadError
from resnet.shards import MissingShardError
from resnet.shipped import ShippedError

EXPLAINED: dict[type[ExplainedError], type[Exception]] = {
    ConfigError: ValueError,
    WeightsError: RuntimeError,
    DownloadError: WeightsError,
    MissingShardError: WeightsError,
    ShippedError: RuntimeError,
    MissingError: RuntimeError,
    ImageError: DecodeError,
    PassError: ValueError,
    OutOfMemoryError: PassError,
    TooLargeError: PassError,
    NoRoomError: ValueError,
    ExportError: ValueError,
    EndedError: RuntimeError,
    LostError: EndedError,
}
"""Every kind, and the error of Python's or of ours that it is too."""


def raised(kind: type[Exception]) -> Exception:
    if kind is ConfigError:
        return ConfigError("size", "x", "a number")
    if kind is MissingShardError:
        return MissingShardError("It is gone: another one works.", "model-00002-of-00003.safetensors")
    return kind("It is gone: another one works.")


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    found = set(kind.__subclasses__())
    return found.union(*map(subclasses, found))


def test_every_kind_is_known_here() -> None:
    assert subclasses(ExplainedError) == set(EXPLAINED)
    assert issubclass(DecodeError, ValueError)


@pytest.mark.parametrize("kind", EXPLAINED)
def test_a_kind_is_what_it_was_of_pythons(kind: type[ExplainedError]) -> None:
    assert issubclass(kind, EXPLAINED[kind])


@pytest.mark.parametrize("kind", [*EXPLAINED, OSError])
def test_a_command_prints_it_and_ends(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    error = raised(kind)

    def work() -> None:
        raise error

    assert status("explorer", work) == 2
    assert capsys.readouterr().err == f"explorer: {error}\n"


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, KeyError])
def test_a_command_hides_no_bug(kind: type[Exception]) -> None:
    def work() -> None:
        raise kind("a bug")

    with pytest.raises(kind, match="a bug"):
        status("explorer", work)


@pytest.mark.parametrize("kind", EXPLAINED)
def test_a_panel_shows_it(kind: type[Exception]) -> None:
    def script(error: Exception) -> None:
        from explorer.views.session import show_or_say

        def panel() -> None:
            raise error

        assert show_or_say(panel) is None

    app = AppTest.from_function(script, args=(raised(kind),)).run()
    assert not app.exception
    (words,) = (shown.value.replace("\\", "").replace("\u2060", "") for shown in app.error)
    assert words == str(raised(kind))


@pytest.mark.parametrize(("kind", "shown"), [(StoppedError, False), (ValueError, True)])
def test_a_panel_that_was_stopped_says_nothing_and_hides_no_bug(kind: type[Exception], shown: bool) -> None:
    def script(error: Exception) -> None:
        from explorer.views.session import show_or_say

        def panel() -> None:
            raise error

        show_or_say(panel)

    app = AppTest.from_function(script, args=(kind("a bug"),)).run()
    assert bool(app.exception) == shown
    assert not app.error
