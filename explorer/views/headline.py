"""What every page starts with: its name and what it is for, the network's name, and four figures against another network;
and how its parts are headed."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

import streamlit as st

from resnet import ResNetConfig, preset_name, title

from ..analysis.compare import common_size
from ..analysis.trace import Trace
from ..export.code import code
from ..export.libraries import timm_call, torchvision_call
from ..link import MAX_OTHERS, size_text
from ..navigation import CHOOSE, Page
from ..units import amount, mebibytes, signed
from . import session
from .cached import cached_trace
from .components import download


def browser_title(page: Page) -> str:
    """ResNet-50 · Inference · ResNet Explorer."""
    return " · ".join([*[title(session.view().config)] * page.of_network, page.title, "ResNet Explorer"])


def page_heading(page: Page, words: str = "") -> None:
    """The title of a page that is not about one network, what it is for, and more `words` where it needs some."""
    st.title(page.title, anchor=False)
    st.caption(f"{page.purpose} {words}".rstrip())


def section(words: str) -> None:
    """The heading of a part of a page, as a card is: a level below the page's title, and as small as its text."""
    st.header(words, anchor=False)


def heading(trace: Trace, page: Page) -> None:
    """Title, what the page is for, a line of what makes this network, and the buttons to pin and to share it."""
    config = trace.config
    words, buttons = st.columns([3, 2], vertical_alignment="bottom")
    with words:
        st.title(f"{title(config)} · {page.title}", anchor=False)
        st.caption(f"{page.purpose}  \n{summary(config)}")
        if trace.too_small:
            st.caption(trace.too_small)
    with buttons:
        network_buttons(config)


def title_with_buttons(page: Page, config: ResNetConfig) -> None:
    """The title of a page about many networks, what it is for, and the buttons to pin and to share the current one."""
    words, buttons = st.columns([3, 2], vertical_alignment="center")
    with words:
        page_heading(page)
    with buttons:
        network_buttons(config)


def network_buttons(config: ResNetConfig) -> None:
    """The buttons to pin a network and to share it."""
    with st.container(horizontal=True, horizontal_alignment="right"):
        if session.view().pinned == config:
            st.button("Unpin", icon=":material/keep_off:", on_click=unpin)
        else:
            st.button(
                "Pin to compare",
                icon=":material/keep:",
                on_click=pin,
                help=f"Keep this network: the figures are compared with it, and {CHOOSE.title} sets it beside the next.",
            )
        popover = st.popover("Share", icon=":material/link:", key="share", on_change="rerun")
        if popover.open:
            with popover:
                share(config)


def pin() -> None:
    """Keep the current network as the one that figures are compared with, and among those that stand beside the next on Choose."""
    view = session.view()
    full = view.config not in view.others and len(view.others) == MAX_OTHERS
    others = view.others if full or view.config in view.others else (*view.others, view.config)
    session.change_view(pinned=view.config, others=others)
    if full:
        session.hold(
            notes=(f"It is pinned; beside it {CHOOSE.title} has {MAX_OTHERS} networks already, as many as it takes.",)
        )


def unpin() -> None:
    """Take back what `pin` does."""
    view = session.view()
    session.change_view(pinned=None, others=tuple(other for other in view.others if other != view.config))


def share(config: ResNetConfig) -> None:
    """The link to this view, and the network to take away: calls of Python that build it, and code that stands alone."""
    query = urlencode(session.view().to_query())
    st.caption("This view as a link")
    st.code((st.context.url or "") + (f"?{query}" if query else ""), language=None, wrap_lines=True)
    st.caption("This network in Python, by this package and by those that can build it too")
    calls = [config.to_code(), *(call.script() for call in (torchvision_call(config), timm_call(config)) if call.code)]
    st.code("\n\n\n".join(map(str.rstrip, calls)), language="python", wrap_lines=True)
    words = "The code of this network alone, in one file that needs nothing but torch. It says the link that opens the network again."
    name = f"{preset_name(config) or 'network'}.py"
    download("PyTorch, one file", lambda: code(config).encode(), name, "text/x-python", words)


def summary(config: ResNetConfig) -> str:
    """bottleneck · 3-4-6-3 · option B · v1.5 · depth 50."""
    parts = [config.block, "-".join(map(str, config.layers))]
    parts.append("plain, no shortcut" if config.shortcut == "none" else f"shortcut option {config.shortcut}")
    if config.block == "bottleneck":
        parts.append("v1.5" if config.stride_in == "3x3" else "v1")
    parts.append(f"depth {config.depth}")
    return " · ".join(parts)


def figures(trace: Trace) -> None:
    """Parameters, MACs, peak memory and receptive field, each with its difference to another network."""
    other_config = session.compared_config()
    other = None
    if other_config is not None and other_config != trace.config:
        other = cached_trace(other_config, common_size((other_config,), trace.image_size))
    name = f"against {title(other.config)}" if other else None
    if other and other.image_size != trace.image_size:
        name = f"{name} at {size_text(other.image_size)}, its least"
    memory = trace.inference_memory
    field = trace.field.size
    seen = "larger than the image" if field > max(trace.image_size) else f"of the image's {max(trace.image_size)}"
    rows: tuple[tuple[str, int, int | None, Callable[[float], str], str], ...] = (
        ("Parameters", trace.params, other.params if other else None, amount, "Trainable numbers."),
        (
            "MACs",
            trace.macs,
            other.macs if other else None,
            amount,
            "Multiply-adds of convolutions and linear layers for one image: the paper's FLOPs. FLOPs counted singly are twice that.",
        ),
        (
            "Peak activations",
            memory.bytes,
            other.inference_memory.bytes if other else None,
            mebibytes,
            f"The most activation memory that a forward pass of one image in fp32 holds at once in PyTorch, first reached at "
            f"{memory.layer.name}; a block's input stays until the block returns. Freeing each output after its last use would hold "
            f"{mebibytes(trace.least_memory.bytes)}. Training keeps {mebibytes(trace.training_memory)} an image for the backward pass.",
        ),
        (
            "Receptive field",
            field,
            other.field.size if other else None,
            lambda value: f"{value:,} px",
            f"Pixels a side that a unit of the last stage can see, {seen}. Units are {trace.field.effective_stride} px apart. "
            f"{trace.beyond_windows()}".rstrip(),
        ),
    )
    with st.container(key="figures"):
        columns = st.columns(4, gap="small")
    for column, (label, value, before, form, words) in zip(columns, rows, strict=True):
        difference = None if before is None else value - before
        column.metric(
            label,
            form(value),
            signed(difference, form),
            delta_color="inverse" if difference and label != "Receptive field" else "off",
            delta_description=name if difference is not None else None,
            help=f"{value:,}: {words}",
            border=True,
            height="stretch",
        )
