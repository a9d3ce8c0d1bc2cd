"""The diagram of a notebook as a browser shows it: its script in an empty page, its model in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from explorer import diagram, trace
from explorer.drawing.network import still
from explorer.drawing.widget import START, Diagram

pytestmark = pytest.mark.browser

HOST = """async ({ esm, state }) => {
    const heard = {}, changed = {};
    const model = {
        get: (name) => state[name],
        set: (name, value) => { state[name] = changed[name] = value; },
        on: (names, act) => names.split(" ").forEach((name) => { heard[name] = act; }),
        off: (names, act) => names.split(" ").forEach((name) => { if (heard[name] === act) delete heard[name]; }),
        save_changes: async () => {
            Object.assign(state, await window.told(changed));
            Object.keys(state).forEach((name) => heard[`change:${name}`]?.());
        },
    };
    const { default: widget } = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
    window.leave = widget.render({ model, el: document.querySelector("main") });
    window.heard = heard;
}"""
"""The least that a notebook does for a widget; `told` stands for the connection to the kernel."""
Shown = Callable[[Diagram], Page]


@pytest.fixture
def shown(browser: Browser) -> Iterator[Shown]:
    """A page that shows a widget as a cell of a notebook does; what is wrong in it fails the test."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    errors: list[str] = []

    def show(widget: Diagram) -> Page:
        def told(changed: dict[str, Any]) -> dict[str, Any]:
            for name, value in changed.items():
                setattr(widget, name, value)
            return widget.get_state(["network", "part", "words", "selected", "unfolded"])

        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.expose_function("told", told)
        page.set_content("<style>rect { fill: red !important }</style><main></main>")
        page.evaluate(HOST, {"esm": widget._esm, "state": widget.get_state()})
        return page

    yield show
    context.close()
    assert not errors, errors


def box(page: Page, name: str) -> Locator:
    return page.locator(f'[data-id="{name}"]')


def test_a_click_opens_a_block_and_selects_a_layer(shown: Shown) -> None:
    widget = diagram("resnet50")
    assert isinstance(widget, Diagram)
    page, traced = shown(widget), trace("resnet50")
    words = page.locator(".words")
    expect(words).to_have_text(START)
    expect(page.locator("svg")).to_have_count(1)
    box(page, "layer2.0").click()
    expect(page.locator("svg")).to_have_count(2)
    assert widget.selected == "layer2.0"
    convolution = traced.by_name["layer2.0.conv2"]
    said = box(page, convolution.name).locator("title").text_content() or ""
    assert f"{convolution.params:,} parameters\n{convolution.macs:,} MACs" in said
    assert "128×56×56 → 128×28×28" in said
    box(page, convolution.name).click()
    expect(words).to_contain_text(f"{convolution.params:,} parameters · {convolution.macs:,} MACs")
    assert widget.selected == convolution.name
    expect(box(page, convolution.name)).to_have_attribute("aria-pressed", "true")
    box(page, convolution.name).press("ArrowRight")
    page.keyboard.press("Enter")
    expect(words).to_contain_text("layer2.0.bn2")
    assert widget.svg() == still(traced, "layer2.0.bn2").svg()


def test_a_folded_stage_opens_and_a_part_can_be_open_from_the_start(shown: Shown) -> None:
    widget = diagram("resnet152", "layer4.2")
    assert isinstance(widget, Diagram)
    page = shown(widget)
    expect(page.locator("svg")).to_have_count(2)
    expect(box(page, "layer3.9")).to_have_count(0)
    box(page, "unfold stage 3").click()
    expect(box(page, "layer3.9")).to_have_count(1)
    assert widget.unfolded == ["stage 3"]
    assert widget.selected == "layer4.2"


def test_the_page_and_the_diagram_do_not_style_each_other(shown: Shown) -> None:
    """Nor do keys in it lead JupyterLab to another cell, nor does a diagram that is gone hear of its model."""
    page = shown(diagram("resnet18"))  # type: ignore[arg-type]
    rectangle = page.locator("[data-id=conv1] rect")
    assert rectangle.evaluate("(box) => getComputedStyle(box).fill") != "rgb(255, 0, 0)"
    assert page.evaluate("document.querySelectorAll('style').length") == 1
    page.evaluate("document.body.style.setProperty('--jp-layout-color0', 'rgb(17, 17, 17)')")
    assert page.locator("main").evaluate("(main) => getComputedStyle(main).backgroundColor") == "rgb(17, 17, 17)"
    assert page.locator("main").get_attribute("data-lm-suppress-shortcuts") == "true"
    page.evaluate("leave()")
    assert page.evaluate("Object.keys(heard)") == []
