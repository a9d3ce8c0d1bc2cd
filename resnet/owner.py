"""What the owner of a server allows, by environment variables: read where they are asked for, so that they can change."""

from __future__ import annotations

import os
import re

from .options import ConfigError

DOWNLOADS, UPLOADS, CACHE = "RESNET_EXPLORER_DOWNLOADS", "RESNET_EXPLORER_UPLOADS", "RESNET_EXPLORER_CACHE_GIB"
SCHEDULER = "RESNET_EXPLORER_SCHEDULER"
ENDPOINT, TOKEN, OFFLINE = "HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE"
SETTINGS = (DOWNLOADS, UPLOADS, CACHE, SCHEDULER, ENDPOINT, OFFLINE)

NO_UPLOADS = "The owner of this server lets nobody upload files; what ships with the app can be looked at."
CACHE_GIB = 20
"""What the files that were downloaded may take together, where the owner does not say."""
PUBLIC_HUB = "https://huggingface.co"


def downloads_allowed() -> bool:
    """Whether weights may be fetched from elsewhere."""
    return _switch(DOWNLOADS)


def hub_allowed() -> bool:
    """Whether the Hugging Face hub may be asked for anything; torchvision's weights come from elsewhere."""
    return downloads_allowed() and not _switch(OFFLINE, "off", (*ON, "yes"), (*OFF, "no"))


def uploads_allowed() -> bool:
    """Whether people may bring images and checkpoints."""
    return _switch(UPLOADS)


def cache_bytes() -> int:
    """What the files that were downloaded may take together."""
    text = _text(CACHE) or str(CACHE_GIB)
    if not re.fullmatch(r"[0-9]{1,6}", text) or not int(text):
        raise ConfigError(CACHE, text, "a whole number of GiB, 1 or more")
    return int(text) * 2**30


def scheduler() -> str:
    """The address of the Dask scheduler whose workers compute what takes long; "" for a worker of this server's own."""
    return scheduler_address(_text(SCHEDULER)) if _text(SCHEDULER) else ""


def scheduler_address(text: str, name: str = SCHEDULER) -> str:
    """The address of a scheduler, which `name` was set to.

    Raises:
        ConfigError: for other text.
    """
    found = re.fullmatch(r"(?:tcp|tls)://(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", text)
    if not found or not 0 < int(found[1]) < 65536:
        raise ConfigError(name, text, "an address such as tcp://127.0.0.1:8786")
    return text


def endpoint() -> str:
    """The address of the Hugging Face hub, or of a mirror of it, without a slash at its end."""
    text = (_text(ENDPOINT) or PUBLIC_HUB).rstrip("/")
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#@\s]*)?", text):
        raise ConfigError(ENDPOINT, text, f"an address such as {PUBLIC_HUB}")
    return text


def token() -> str:
    """What opens gated and private models of the hub to this server; "" where its owner gave none.

    It comes from the environment alone: the one that `hf auth login` keeps is a person's and not the server's.

    Raises:
        ConfigError: where no header can hold it; the sentence does not repeat it, as that of http.client would.
    """
    text = _text(TOKEN)
    if not re.fullmatch("[!-~]*", text):
        raise ConfigError(TOKEN, "(not shown)", "one line of ASCII letters, digits and signs without a space")
    return text


def check() -> None:
    """That all settings can be read.

    Raises:
        ConfigError: for the first one that cannot.
    """
    for read in (hub_allowed, uploads_allowed, cache_bytes, scheduler, endpoint, token):
        read()


ON, OFF = ("on", "true", "1"), ("off", "false", "0")


def _switch(name: str, default: str = "on", on: tuple[str, ...] = ON, off: tuple[str, ...] = OFF) -> bool:
    text = _text(name).lower() or default
    if text not in on + off:
        raise ConfigError(name, text, "on or off")
    return text in on


def _text(name: str) -> str:
    return os.environ.get(name, "").strip()
