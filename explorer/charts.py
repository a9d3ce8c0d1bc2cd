"""Traces and activations as plotly figures and pictures. Colours and fonts are the page's."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from PIL import Image
from plotly.colors import sample_colorscale

from .effective import Width
from .latency import Roof, Timed
from .palette import ACCENT, STAGES, colour
from .receptive_field import Depth, Field, Paths
from .residual import Contribution, Lesion
from .trace import Layer, Trace
from .units import scientific

MEASURES = {
    "MACs": ("macs", "multiply-adds for one image"),
    "Parameters": ("params", "trainable numbers"),
    "Activations": ("numbers", "numbers put out for one image"),
}
"""What the cost chart can show: label, key, unit."""


def measure(layer: Layer, key: str) -> int:
    return int(np.prod(layer.out_shape)) if key == "numbers" else getattr(layer, key)


def cost_figure(trace: Trace, name: str, by_layer: bool) -> go.Figure:
    """A measure of `MEASURES` by stage, or layer by layer in the order of execution."""
    key, unit = MEASURES[name]
    groups = list(dict.fromkeys(layer.role.group for layer in trace.layers))
    total = sum(measure(layer, key) for layer in trace.layers)
    figure = go.Figure()
    xs: list[int] | list[str]
    for group in groups:
        layers = [layer for layer in trace.layers if layer.role.group == group]
        if by_layer:
            layers = [layer for layer in layers if measure(layer, key)]
            xs, ys = [layer.index for layer in layers], [measure(layer, key) for layer in layers]
            names = [layer.name for layer in layers]
        else:
            xs, ys, names = [group], [sum(measure(layer, key) for layer in layers)], [group]
        shares = [y / total if total else 0 for y in ys]
        figure.add_bar(
            x=xs, y=ys, name=group, marker_color=colour(group), customdata=list(zip(names, shares, strict=True)),
            hovertemplate="%{customdata[0]}<br>%{y:,} (%{customdata[1]:.1%})<extra></extra>",
            text=[f"{share:.0%}" for share in shares] if not by_layer else None,
        )  # fmt: skip
    where = "layer by layer" if by_layer else "by stage"
    return finish(figure, f"{name} {where}", "layer" if by_layer else "", unit, legend=by_layer)


def field_figure(trace: Trace, at: str) -> go.Figure:
    """The receptive field of every layer up to global pooling, against the image's side."""
    figure = go.Figure()
    layers = [layer for layer in trace.layers if layer.field.jump]
    for group in dict.fromkeys(layer.role.group for layer in layers):
        chosen = [layer for layer in layers if layer.role.group == group and not layer.role.on_shortcut]
        figure.add_scatter(
            x=[layer.index for layer in chosen],
            y=[layer.field.size for layer in chosen],
            name=group,
            mode="lines+markers",
            marker={"size": 5, "color": colour(group)},
            line={"shape": "hv", "color": colour(group)},
            customdata=[(layer.name, layer.field.jump) for layer in chosen],
            hovertemplate="%{customdata[0]}<br>sees %{y} px, units %{customdata[1]} px apart<extra></extra>",
        )
    side = max(trace.image_size)
    figure.add_hline(
        y=side,
        line_dash="dot",
        line_color="#8a919e",
        annotation_text=f"image, {side} px",
        annotation_position="top left",
    )
    marked = trace.by_name.get(at)
    if marked and marked.field.jump:
        figure.add_vline(x=marked.index, line_width=1, line_color="#8a919e")
    return finish(figure, "Receptive field by depth", "layer", "pixels a side", legend=True)


def path_depth_figure(rows: Sequence[Depth]) -> go.Figure:
    """Where the field sizes of all paths lie, block by block."""
    xs, names = [row.layer.index for row in rows], [row.layer.name for row in rows]
    figure = go.Figure()
    lines = (("95 % of the paths", [row.high for row in rows]), ("5 % of the paths", [row.low for row in rows]))
    for (name, ys), fill in zip(lines, (None, "tonexty"), strict=True):
        figure.add_scatter(
            x=xs, y=ys, name=name, mode="lines", line={"width": 0, "color": ACCENT}, fill=fill, showlegend=False,
            fillcolor="rgba(42, 111, 208, 0.22)", customdata=names,
            hovertemplate=f"%{{customdata}}<br>{name} see at most %{{y}} px<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=xs, y=[row.mean for row in rows], name="mean of all paths; band: 90 % of them", mode="lines+markers",
        line={"color": ACCENT}, marker={"size": 5}, customdata=names,
        hovertemplate="%{customdata}<br>mean %{y:.1f} px<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=xs, y=[row.largest for row in rows], name="longest path, a plain network's only one", mode="lines",
        line={"color": STAGES[2], "dash": "dash"}, customdata=names,
        hovertemplate="%{customdata}<br>longest path %{y} px<extra></extra>",
    )  # fmt: skip
    return finish(figure, "Field sizes of all paths by depth", "layer", "pixels a side", legend=True)


def path_figure(paths: Paths, name: str, plain: int | None) -> go.Figure:
    """How many of the paths to a layer see how much, with the plain network's one number."""
    figure = go.Figure(
        go.Bar(
            x=paths.sizes, y=paths.shares, marker_color=ACCENT, customdata=[count_text(c) for c in paths.counts],
            hovertemplate="%{x} px: %{y:.3~%} of the paths, %{customdata} of them<extra></extra>",
        )
    )  # fmt: skip
    marks = [(paths.mean, f"mean {paths.mean:,.0f} px", "#8a919e")]
    if plain is not None:
        marks.append((plain, f"plain network {plain:,} px", STAGES[2]))
    for x, words, shade in marks:
        figure.add_vline(x=x, line_dash="dash", line_color=shade, name=words, showlegend=True)
    finish(figure, f"Field sizes of all paths to {name}", "pixels a side", "share of paths", legend=True)
    figure.update_traces(showlegend=False)
    figure.update_yaxes(tickformat="~%")
    return figure


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


def width_figure(profile: np.ndarray, first: int, size: int, width: Width, name: str) -> go.Figure:
    """An effective field's profile in a box of `size` pixels, from its pixel `first` on, with the Gaussian that fits."""
    xs = np.arange(len(profile)) + first - (size - 1) / 2
    figure = go.Figure()
    figure.add_scatter(
        x=xs, y=profile, name="measured", mode="lines", line={"shape": "hvh", "color": ACCENT}, fill="tozeroy",
        fillcolor="rgba(42, 111, 208, 0.22)", hovertemplate="%{x:+.1~f} px: %{y:.2%}<extra></extra>",
    )  # fmt: skip
    if np.isfinite(width.sigma):
        fine = np.linspace(xs[0], xs[-1], 400)
        middle = width.middle + xs[0]
        curve = np.exp(-((fine - middle) ** 2) / (2 * width.sigma**2))
        curve *= profile.sum() / np.exp(-((xs - middle) ** 2) / (2 * width.sigma**2)).sum()
        figure.add_scatter(
            x=fine, y=curve, name=f"Gaussian, σ = {width.sigma:.1f} px", mode="lines", hoverinfo="skip",
            line={"color": STAGES[2], "dash": "dash"},
        )  # fmt: skip
        figure.add_vrect(
            middle - 2 * width.sigma, middle + 2 * width.sigma, fillcolor=STAGES[2], opacity=0.1, line_width=0,
            annotation_text="4σ", annotation_position="top left",
        )  # fmt: skip
    for edge, words in ((-size / 2, "theoretical field"), (size / 2, None)):
        figure.add_vline(x=edge, line_dash="dot", line_color="#8a919e", name=words, showlegend=words is not None)
    finish(
        figure, f"Where the gradient of {name} falls", "pixels from the middle", "share of a row or column", legend=True
    )
    figure.update_yaxes(tickformat="~%")
    return figure


def channel_figure(values: np.ndarray, name: str, most: int = 40) -> go.Figure:
    """A layer of one number a channel: the channels of largest magnitude."""
    chosen = np.argsort(-np.abs(values), kind="stable")[:most]
    figure = go.Figure(
        go.Bar(
            x=[str(c) for c in chosen],
            y=values[chosen],
            marker_color=colour("stage 1"),
            hovertemplate="channel %{x}: %{y:.4g}<extra></extra>",
        )
    )
    finish(figure, f"Strongest channels of {name}", "channel", "value", legend=False)
    figure.update_xaxes(type="category")
    return figure


def histogram_figure(values: np.ndarray, title: str, deviation: float | None = None) -> go.Figure:
    """How numbers are distributed, and the bell curve of a `deviation` around zero to hold beside them."""
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, 80)
    middles = (edges[:-1] + edges[1:]) / 2
    figure = go.Figure(
        go.Bar(
            x=middles, y=counts, width=np.diff(edges), marker_color=colour("stage 1"), name="now",
            hovertemplate="around %{x:.3g}: %{y:,}<extra></extra>",
        )
    )  # fmt: skip
    if deviation:
        bell = np.exp(-((middles / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
        figure.add_scatter(
            x=middles, y=bell * len(values) * np.diff(edges), mode="lines", name="at the start",
            line={"color": "#8a919e", "width": 2}, hoverinfo="skip",
        )  # fmt: skip
    finish(figure, title, "weight", "how many", legend=bool(deviation))
    figure.update_xaxes(tickformat=".2~g")
    return figure


def latency_figure(layers: Sequence[Timed]) -> go.Figure:
    """The measured milliseconds of every layer, in order of execution, and a tick at the least that the roof allows."""
    figure = go.Figure()
    for group in dict.fromkeys(timed.layer.role.group for timed in layers):
        chosen = [timed for timed in layers if timed.layer.role.group == group]
        figure.add_bar(
            x=[timed.layer.index for timed in chosen], y=[timed.seconds * 1000 for timed in chosen], name=group,
            marker_color=colour(group), customdata=_timed_words(chosen),
            hovertemplate="%{customdata[0]}, %{customdata[1]}<br>%{y:.3~g} ms, %{customdata[2]} its bound<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[timed.layer.index for timed in layers], y=[timed.bound * 1000 for timed in layers], name="roofline bound",
        mode="markers", marker={"symbol": "line-ew", "size": 9, "line": {"width": 2, "color": "#8a919e"}},
        customdata=_timed_words(layers), hovertemplate="%{customdata[0]}<br>at least %{y:.3~g} ms<extra></extra>",
    )  # fmt: skip
    finish(figure, "Time of each layer, and the least it could take", "layer", "ms", legend=True)
    figure.update_yaxes(tickformat="~g")
    return figure


def roofline_figure(layers: Sequence[Timed], roof: Roof) -> go.Figure:
    """FLOP/s against FLOPs per byte, both logarithmic: the measured roof, and below it the layers that multiply."""
    working = [timed for timed in layers if timed.layer.macs]
    intensities = [timed.intensity for timed in working] + [roof.ridge]
    corners = [min(intensities) / 2, roof.ridge, max(intensities) * 2]
    figure = go.Figure()
    figure.add_scatter(
        x=corners, y=[roof.at(corner) for corner in corners], name="measured roof", mode="lines",
        line={"color": "#8a919e", "width": 2}, hovertemplate="roof: %{y:.3~s}FLOP/s<extra></extra>",
    )  # fmt: skip
    for group in dict.fromkeys(timed.layer.role.group for timed in working):
        chosen = [timed for timed in working if timed.layer.role.group == group]
        figure.add_scatter(
            x=[timed.intensity for timed in chosen], y=[timed.achieved for timed in chosen], name=group, mode="markers",
            marker={"size": 9, "color": colour(group), "opacity": 0.8}, customdata=_timed_words(chosen),
            hovertemplate="%{customdata[0]}, %{customdata[1]}<br>%{x:.3~g} FLOPs a byte, %{y:.3~s}FLOP/s, "
            "%{customdata[2]} its bound<extra></extra>",
        )  # fmt: skip
    finish(figure, "Roofline: speed against arithmetic per byte", "FLOPs per byte moved", "FLOP/s", legend=True)
    figure.update_xaxes(type="log", tickformat="~g", dtick=1)
    figure.update_yaxes(type="log", dtick=1)
    return figure


def _timed_words(layers: Sequence[Timed]) -> list[tuple[str, str, str]]:
    return [(timed.layer.name, timed.layer.label, f"{timed.ratio:,.1f}×") for timed in layers]


def contribution_figure(found: Sequence[Contribution], at: str, off: Collection[str]) -> go.Figure:
    """‖F(x)‖ / ‖S(x)‖ of every residual block; the block `at` has a rim, and those that are `off` are hollow."""
    figure = go.Figure()
    stages = {one.block: f"stage {one.block[5:].partition('.')[0]}" for one in found}
    for group in dict.fromkeys(stages.values()):
        chosen = [one for one in found if stages[one.block] == group]
        shade = colour(group)
        figure.add_bar(
            x=[one.block for one in chosen], y=[one.ratio for one in chosen], name=group,
            marker={
                "color": ["rgba(0, 0, 0, 0)" if one.block in off else shade for one in chosen],
                "line": {
                    "color": ["#8a919e" if one.block == at else shade for one in chosen],
                    "width": [3 if one.block == at else 1 for one in chosen],
                },
            },
            customdata=[(one.branch, one.shortcut, " (off)" if one.block in off else "") for one in chosen],
            hovertemplate="%{x}%{customdata[2]}: %{y:.3~g}<br>‖F(x)‖ = %{customdata[0]:.3~g}, "
            "‖S(x)‖ = %{customdata[1]:.3~g}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=1, line_dash="dot", line_color="#8a919e", annotation_text="as large as the shortcut")
    finish(figure, "Branch against shortcut, by block", "stage.block", "‖F(x)‖ / ‖S(x)‖", legend=True)
    names = [one.block for one in found]
    figure.update_xaxes(
        type="category", tickformat=None, tickangle=0, tickvals=names, ticktext=[name[5:] for name in names]
    )
    figure.update_yaxes(tickformat="~g")
    return figure


JUDGED = {"Error": "error", "Probability of the right class": "right"}
"""What a lesion can be judged by: label, field of `Lesion`."""


def lesion_figure(series: Mapping[str, Sequence[Lesion]], label: str, images: str) -> go.Figure:
    """A measure of `JUDGED` without each block in turn, and of the whole network as a line.

    The first of the `series` are bars in the colours of the stages, another is diamonds beside them. `images` says
    what it was measured on.
    """
    key, figure = JUDGED[label], go.Figure()
    order = sorted({one.block for found in series.values() for one in found if one.block}, key=_depth)
    for number, (name, found) in enumerate(series.items()):
        whole = next(getattr(one, key) for one in found if not one.block)
        taken = [one for one in found if one.block]
        xs, ys = [one.block for one in taken], [getattr(one, key) for one in taken]
        shades = [colour(f"stage {block[5:].partition('.')[0]}") for block in xs]
        words = f"{name} without %{{x}}: %{{y:.1%}}<br>whole: {whole:.1%}<extra></extra>"
        if number:
            figure.add_scatter(
                x=xs, y=ys, name=name, mode="markers", hovertemplate=words,
                marker={"symbol": "diamond-open", "size": 9, "color": "#8a919e", "line": {"width": 2}},
            )  # fmt: skip
        else:
            figure.add_bar(x=xs, y=ys, name=name, marker_color=shades, hovertemplate=words)
        figure.add_scatter(
            x=order, y=[whole] * len(order), name=f"{name}, whole: {whole:.1%}", mode="lines", hoverinfo="skip",
            line={"width": 1.5, "dash": "dot" if number else "solid", "color": "#8a919e" if number else ACCENT},
        )  # fmt: skip
    finish(figure, f"{label} with one block off, {images}", "block that is off, as stage.block", "", legend=True)
    figure.update_xaxes(
        type="category", tickformat=None, categoryorder="array", categoryarray=order, tickangle=0, tickvals=order,
        ticktext=[block[5:] for block in order],
    )  # fmt: skip
    figure.update_yaxes(tickformat="~%", rangemode="tozero")
    return figure


def _depth(block: str) -> tuple[int, int]:
    stage, _, index = block.removeprefix("layer").partition(".")
    return int(stage), int(index)


def finish(figure: go.Figure, title: str, x: str, y: str, legend: bool) -> go.Figure:
    """The figure with title, axis titles and, below it, a legend, as all of ours have them."""
    figure.update_layout(
        title=title or None, height=340, showlegend=legend, bargap=0.15, hovermode="closest",
        margin={"l": 8, "r": 8, "t": 44, "b": 8}, legend={"orientation": "h", "y": -0.22, "title": None},
    )  # fmt: skip
    figure.update_xaxes(title=x or None)
    figure.update_yaxes(title=y or None, tickformat="~s", exponentformat="SI")
    return figure


def log_axis(figure: go.Figure, seen: Sequence[float]) -> None:
    """A logarithmic y axis for positive values: at most eight powers of ten on it, or 1, 2 and 5 times some."""
    figure.update_yaxes(type="log", tickformat=None, exponentformat="power")
    low, high = (math.log10(bound(seen)) if seen else 0.0 for bound in (min, max))
    if high - low > 1.5:
        figure.update_yaxes(dtick=math.ceil((high - low) / 7))
    else:
        powers = range(math.floor(low), math.ceil(high) + 1)
        ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
        figure.update_yaxes(tickvals=ticks, ticktext=[scientific(tick) for tick in ticks])


# -- activations as pictures --------------------------------------------------------------


def _shades(scale: str) -> np.ndarray:
    """256 shades of a plotly colour scale, 256×3 bytes."""
    shades = sample_colorscale(scale, np.linspace(0, 1, 256), colortype="rgb")
    return np.array([[int(part) for part in shade[4:-1].split(",")] for shade in shades], dtype=np.uint8)


_VIRIDIS, _BLUE_RED = _shades("Viridis"), _shades("RdBu_r")


def coloured(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """H×W numbers as H×W×3 bytes in viridis from `low` to `high` (the map's own range if not given)."""
    values = np.nan_to_num(values.astype(np.float32)).astype(np.float64)  # the widest range fits
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return _VIRIDIS[(scaled.clip(0, 1) * 255).astype(np.uint8)]


def signed(values: np.ndarray, largest: float | None = None) -> np.ndarray:
    """H×W numbers as H×W×3 bytes from blue at −`largest` over white at 0 to red at `largest` (the map's own if not given)."""
    values = np.nan_to_num(values.astype(np.float32)).astype(np.float64)
    largest = float(np.abs(values).max()) if largest is None else largest
    return _BLUE_RED[(127.5 + 127.5 * (values / (largest or 1.0)).clip(-1, 1)).round().astype(np.uint8)]


def channel_tiles(maps: np.ndarray, channels: Sequence[int]) -> list[np.ndarray]:
    """Chosen channels of C×H×W as pictures, each in its own range, 32 to 64 pixels on the longer side."""
    longest = max(maps.shape[1:])
    scale, step = max(1, -(-32 // longest)), max(1, -(-longest // 64))
    return [coloured(maps[c, ::step, ::step]).repeat(scale, 0).repeat(scale, 1) for c in channels]


def sheet(tiles: Sequence[np.ndarray], columns: int) -> Image.Image:
    """Pictures H×W×3 of one size side by side, row by row."""
    tall, wide = tiles[0].shape[:2]
    paper = np.zeros((-(-len(tiles) // columns) * tall, columns * wide, 3), np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        paper[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide] = tile
    return Image.fromarray(paper)


def enlarged(picture: np.ndarray, side: int) -> Image.Image:
    """H×W×3 bytes with hard pixels, `side` pixels wide."""
    height, width = picture.shape[:2]
    return Image.fromarray(picture).resize((side, max(1, round(side * height / width))), Image.Resampling.NEAREST)


def shown(seen: np.ndarray) -> np.ndarray:
    """The bytes H×W×C that a network saw as H×W×3: its colours, or its first channel in grey."""
    return seen if seen.shape[2] == 3 else seen[:, :, :1].repeat(3, 2)


def fitting(seen: np.ndarray, most: int) -> np.ndarray:
    """The bytes H×W×C that a network saw as a page shows them, in colours or its first channel as H×W: a small picture
    with hard pixels, up to 224 a side, and a large one reduced by a whole number to at most `most`.
    """
    pixels = seen if seen.shape[2] == 3 else seen[:, :, 0]
    longest = max(pixels.shape[:2])
    if longest > most:
        return np.asarray(Image.fromarray(pixels).reduce(math.ceil(longest / most)))
    scale = max(1, 224 // longest)
    return pixels.repeat(scale, 0).repeat(scale, 1)


def on_picture(cells: np.ndarray, field: Field, size: tuple[int, int], samples: tuple[int, int]) -> np.ndarray:
    """A layer's units H×W(×…) as they lie on a picture of `size` pixels, drawn with so many samples (height, width).

    Each place shows the unit whose field has its middle nearest.
    """
    rows, columns = map(field.spread, cells.shape, size, samples)
    return cells[rows][:, columns]


def overlay(channel: np.ndarray, seen: np.ndarray, blend: float, field: Field, side: int = 448) -> Image.Image:
    """One H×W map of a layer that sees `field`, over the picture the network saw (H×W×C bytes), which is enlarged to
    be `side` pixels wide; 1 hides the picture.
    """
    below = Image.fromarray(shown(seen))
    below = below.resize((side, max(1, round(side * below.height / below.width))), Image.Resampling.BICUBIC)
    height, width = seen.shape[:2]
    above = on_picture(coloured(channel), field, (height, width), (below.height, below.width))
    return Image.blend(below, Image.fromarray(above), blend)


def tinted(values: np.ndarray, shade: str) -> Image.Image:
    """H×W numbers as one colour ("#rrggbb"), transparent at their least and full at their greatest."""
    values = np.nan_to_num(values.astype(np.float32)).astype(np.float64)
    low, high = values.min(), values.max()
    picture = np.empty((*values.shape, 4), np.uint8)
    picture[..., :3] = [int(shade[at : at + 2], 16) for at in (1, 3, 5)]
    picture[..., 3] = (values - low) / (high - low) * 255 if high > low else 0
    return Image.fromarray(picture)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as a compressed NumPy file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def data_url(picture: Image.Image) -> str:
    """A picture as an address that needs no server."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()
