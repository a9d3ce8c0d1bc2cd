"""A network for graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..analysis.layers import IMAGE
from ..analysis.trace import Trace
from .palette import colour

if TYPE_CHECKING:
    import graphviz
from ..analysis.parts import drawn_parts
from .svg import short_shape

DRAWABLE = 800
"""Layers up to which graphviz draws each one; beyond, it draws blocks."""


def graph(trace: Trace) -> graphviz.Digraph:
    """The traced graph for graphviz, one cluster a stage; block by block above 800 layers."""
    import graphviz

    result = graphviz.Digraph(
        "resnet",
        graph_attr={"rankdir": "TB", "bgcolor": "transparent", "fontname": "Helvetica"},
        node_attr={
            "shape": "box",
            "style": "filled,rounded",
            "fontname": "Helvetica",
            "fontsize": "11",
            "fontcolor": "white",
        },
        edge_attr={"color": "#8a919e"},
    )
    by_block = len(trace.layers) > DRAWABLE
    everything = drawn_parts(trace) if by_block else ()
    node_of = {layer.index: part.identifier for part in everything for layer in part.layers}
    node_of = node_of or {layer.index: layer.name for layer in trace.layers}
    node_of[IMAGE] = "input"
    result.node("input", f"input\n{short_shape(trace.image_shape)}", fillcolor="#8a919e")
    for group, layers in trace.groups.items():
        with result.subgraph(name=f"cluster_{group}") as cluster:
            cluster.attr(label=group, color=colour(group), fontcolor=colour(group), style="rounded")
            if by_block:
                for part in everything:
                    if part.group == group:
                        cluster.node(
                            part.identifier, f"{part.identifier}\n{short_shape(part.shape)}", fillcolor=colour(group)
                        )
                continue
            for layer in layers:
                words = f"{layer.name}\n{layer.label}\n{short_shape(layer.out_shape)}"
                cluster.node(layer.name, words, fillcolor=colour(group))
    edges = {(node_of[producer], node_of[layer.index]) for layer in trace.layers for producer in layer.inputs}
    for tail, head in sorted(edges):
        if tail != head:
            result.edge(tail, head)
    return result
