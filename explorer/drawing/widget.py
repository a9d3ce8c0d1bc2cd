"""The block diagram as a widget of notebooks (https://anywidget.dev), by the app's own script."""

from __future__ import annotations

import json
from typing import Any

import anywidget
import traitlets

from resnet import preset_name, title

from ..analysis.trace import Trace
from . import network, picture

START = "Click a block to open it, and a layer in it to select it."


class Diagram(anywidget.AnyWidget):
    """A network from input to output, and below it the part that is open, layer by layer; `trace` is what is drawn."""

    _esm = "\n".join(
        (
            f"const HTML = {json.dumps(picture.HTML)}, CSS = {json.dumps(picture.CSS + picture.asset('widget.css'))};",
            picture.JS,
            picture.asset("widget.js"),
        )
    )
    selected = traitlets.Unicode().tag(sync=True)
    """The layer, block, "stem" or "head" that was clicked, or ""; it can be set, and `observe` follows clicks."""
    unfolded = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """The long stages, such as "stage 3", whose blocks are all shown."""
    network = traitlets.Dict(read_only=True).tag(sync=True)
    """What the script draws above (`picture.data`)."""
    part = traitlets.Dict(read_only=True).tag(sync=True)
    """What it draws below, without layouts where nothing is open."""
    words = traitlets.Unicode(read_only=True).tag(sync=True)
    """Of what is selected: shapes, parameters, MACs of one image, receptive field in pixels."""

    def __init__(self, trace: Trace, selected: str = "") -> None:
        """The diagram of a trace, with a part or layer of it open.

        Raises:
            ConfigError: for a part that the network does not have.
        """
        self.trace = trace
        super().__init__(selected=selected)

    @traitlets.validate("selected")
    def _known(self, proposal: Any) -> str:
        """What is selected.

        Raises:
            ConfigError: for what the network does not have.
        """
        return network.check_part(self.trace, proposal["value"])

    @traitlets.default("network")
    def _network(self) -> dict[str, Any]:
        drawing = network.overview(self.trace, self.selected, frozenset(self.unfolded))
        return picture.data([drawing], self._file)

    @traitlets.default("part")
    def _part(self) -> dict[str, Any]:
        name = self.trace.part_of(self.selected)
        ways = (network.detail(self.trace, name, self.selected, shared) for shared in (False, True))
        return picture.data([*ways] if name else [], f"{self._file}-{name}")

    @traitlets.default("words")
    def _words(self) -> str:
        if not self.selected:
            return START
        return f"{self.selected}\n{network.facts(self.trace.inside(self.selected))}".replace("\n", " · ")

    @traitlets.observe("selected", "unfolded")
    def _draw(self, _: Any) -> None:
        with self.hold_sync():
            for name, made in (("network", self._network), ("part", self._part), ("words", self._words)):
                self.set_trait(name, made())

    @property
    def _file(self) -> str:
        """What its files are called, without an ending."""
        return preset_name(self.trace.config) or "network"

    def svg(self) -> str:
        """The part that is open, or the whole network, as a plain SVG document."""
        return network.still(self.trace, self.selected).svg()

    def __repr__(self) -> str:
        """The network, and what is selected, in a line."""
        height, width = self.trace.image_size
        selected = f": {self.selected} selected" if self.selected else ""
        return f"Diagram({title(self.trace.config)} at {height}×{width}{selected})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget, and for pages without widgets the picture."""
        bundle, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        return bundle | {"image/svg+xml": network.still(self.trace, self.selected)._repr_svg_()}, metadata
