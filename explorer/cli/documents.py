"""What `summary`, `compare`, `list`, `search`, `checkpoint`, `predict` and `latency` say, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from resnet import Opened, ResNetConfig, build, preset_name, title
from resnet.checkpoint import not_finite
from resnet.datasets import Preprocessing
from resnet.options import plain, to_text
from resnet.weights import Weights, own_weights

from ..analysis.compare import DELTAS, Comparison, charges, differing_rows, remarks, row_path, total_pairs
from ..analysis.receptive_field import Field
from ..analysis.search import LIMITED, WRITTEN, Candidate, Fits, Limits, Part, narrower
from ..analysis.space import SIZE, Space
from ..analysis.trace import Trace
from ..inference.checkpoint import assumptions_text, cannot_run, in_order, said_of
from ..inference.classify import Classified
from ..inference.device import Device
from ..inference.latency import Machine, Timed, spread
from ..inference.weights import Chosen
from ..link import View, natural_size
from ..link import query_text as typed

SCHEMA = 1
"""Of the JSON; another number where a key changes its meaning or goes."""

# -- text ---------------------------------------------------------------------------------


def summary(traced: Trace) -> str:
    """The layer table and the totals, as text."""
    totals = [f"{name:17} {value}" for name, value in traced.figures]
    table = traced.frame().drop(columns="inputs").to_string(index=False)
    return "\n".join([table, "", traced.heading, *totals, *traced.notes, ""])


def comparison(compared: Comparison) -> str:
    """The totals of two networks, the layers that differ, and the bill, as text."""
    import pandas

    names = compared.names
    paths, rows = [row[0] for row in differing_rows(compared)], [row[1:] for row in differing_rows(compared)]
    layers = pandas.DataFrame(rows, paths, [f"a: {names[0]}", f"b: {names[1]}", *DELTAS]).to_string() if rows else ""
    bill = pandas.DataFrame(charges(compared), columns=["applied in this order", *DELTAS]).to_string(index=False)
    return "\n".join(
        [
            compared.heading,
            *(
                f"{name:16}  {one:>16,}  {two:>16,}  {two - one:>+16,}  ×{two / one:.3g}"
                for name, one, two in total_pairs(compared)
            ),
            *remarks((compared.a, compared.b), names),
            "",
            compared.differing,
            *([layers] if rows else []),
            "",
            bill,
            "",
        ]
    )


NEAREST = 5
"""Networks over the budget that `list` names."""


def limit_words(limits: Limits, own_sizes: bool = False) -> str:
    """At 320×640, at most 5.00 GMACs and 30.00 M parameters; without the size where networks have their own."""
    given = [WRITTEN[name](value) for name in LIMITED if (value := getattr(limits, name))]
    size = "at their own sizes" if own_sizes else "at {}×{}".format(*limits.size)
    return size + (f", at most {' and '.join(given)}" if given else "")


COST_COLUMNS = ("network", "depth", "parameters", "MACs", "peak bytes", "training bytes", "field")


def cost_cells(candidate: Candidate) -> tuple[int, ...]:
    """What a candidate costs, in the order of `COST_COLUMNS`, without its name."""
    return (
        candidate.depth,
        candidate.params,
        candidate.macs,
        candidate.memory,
        candidate.training_memory,
        candidate.field.size,
    )


def fit_rows(found: Fits) -> list[tuple[str | int, ...]]:
    """The networks that fit, each with what it costs."""
    return [(row.name, *cost_cells(row.candidate)) for row in found.inside if row.candidate]


def fit_heading(found: Fits) -> str:
    """1 of 103 presets at 320×640, at most 5.00 GMACs."""
    return f"{len(found.inside)} of {len(found.rows)} presets {limit_words(found.limits)}"


def near_lines(found: Fits) -> list[str]:
    """The nearest of the others, a line each, and how many each limit leaves out; none where all fit."""
    if not found.outside:
        return []
    first_names = {row.config: row for row in reversed(found.outside)}  # a network with two names is named once
    near = [row for row in found.outside if first_names[row.config] is row][:NEAREST]
    lines = []
    for row in near:
        remedy = f"; {narrower(row.config, found.limits).words}" if row.over else ""
        lines.append(f"{row.name}: {row.reason}{remedy}")
    counts = [f"{count} by {found.limits.options()[name].label}" for name, count in found.left_out.items()]
    return ["The nearest of the others:", *lines, *([f"Left out: {', '.join(counts)}."] if counts else [])]


def fits(found: Fits) -> str:
    """The networks that fit and the nearest of the others, as text."""
    return "\n".join([fit_heading(found), *framed(fit_rows(found)), "", *near_lines(found)]).rstrip() + "\n"


def framed(rows: list[tuple[str | int, ...]]) -> list[str]:
    """Rows of `COST_COLUMNS` as text; nothing where there are none."""
    import pandas

    return ["", pandas.DataFrame(rows, columns=[*COST_COLUMNS]).to_string(index=False)] if rows else []


def query_text(candidate: Candidate) -> str:
    """What a candidate can be typed as where a NETWORK is asked for."""
    return urlencode(View(candidate.config, candidate.image_size).to_query()) or "resnet50"


def design_rows(shown: Iterable[Candidate]) -> list[tuple[str | int, ...]]:
    """Designs, each with what it costs."""
    return [(query_text(one), *cost_cells(one)) for one in shown]


def search_heading(space: Space, limits: Limits, found: Part, shown: Sequence[Candidate], goals: str) -> str:
    """How many designs are shown, of how many, and what was left out."""
    unbeaten = f" that no other beats by {goals}, of {len(found.candidates):,}" if goals else ""
    counts = ((found.over, "over a limit"), (found.invalid, "not buildable"))
    left_out = ", ".join(f"{count:,} {words}" for count, words in counts if count)
    budget = limit_words(limits, own_sizes=SIZE in dict(space.axes))
    return f"{len(shown):,}{unbeaten} of {len(space):,} designs {budget}" + (f"; {left_out}" if left_out else "")


def search(space: Space, limits: Limits, found: Part, shown: Sequence[Candidate], goals: str) -> str:
    """The designs that are shown of those that were found, as text."""
    rows = framed(design_rows(shown))
    return "\n".join([search_heading(space, limits, found, shown, goals), *rows, ""])


def checkpoint_figures(opened: Opened) -> list[tuple[str, str]]:
    """What a checkpoint is, each with its name."""
    tensors = [tensor for name, tensor in opened.state_dict.items() if name in opened.names]
    renamed = next(
        (f"{plain(there, 80)} for {here}, and so on" for here, there in opened.names.items() if here != there), ""
    )
    return [
        ("network", title(opened.config)),
        ("known by", "what the file says" if opened.declared else "names and shapes of its tensors"),
        ("typed as", checkpoint_query(opened.config)),
        ("depth", str(opened.config.depth)),
        ("parameters", f"{parameters(opened.config):,}"),
        ("classes", "no classifier" if opened.headless else f"{opened.config.num_classes:,}"),
        ("tensors", f"{len(tensors)} of {sum(tensor.numel() for tensor in tensors):,} numbers"),
        ("names", renamed or "as torchvision's networks have them"),
    ]


def checkpoint_query(config: ResNetConfig) -> str:
    """What a network is typed as, by its preset's name where it has one."""
    return preset_name(config) or typed(View(config, natural_size(config)))


def parameters(config: ResNetConfig) -> int:
    return sum(parameter.numel() for parameter in build(config, "meta").parameters())


def checkpoint_lines(name: str, opened: Opened, answers: Mapping[str, str]) -> list[str]:
    """What was left out, done and assumed, a line each."""
    lines = [*said_of(opened, answers), *(plain(note, 400) for note in opened.notes)]
    if broken := not_finite(opened.state_dict):
        lines.append(f"{cannot_run(broken)}.")
    if opened.questions:
        lines += ["", "Assumed until --answer says otherwise, as no tensor shows it:"]
    for asked, question in in_order(opened):
        first, *others = map(plain, map(to_text, question.choices))
        lines.append(f"{asked}={first}, or {', '.join(others)}. {question.tell}" if others else f"{asked}={first}")
    return [*lines, "", assumptions_text(checkpoint_weights(name, opened))]


def checkpoint_weights(name: str, opened: Opened) -> Weights:
    """Weights of a file, with what is assumed of the data."""
    return own_weights(opened.config, natural_size(opened.config), name, "", opened.headless)


def checkpoint(name: str, opened: Opened, answers: Mapping[str, str]) -> str:
    """What a checkpoint file is, as text."""
    rows = [f"{key:12} {value}" for key, value in checkpoint_figures(opened)]
    return "\n".join([plain(name, 80), *rows, "", *checkpoint_lines(name, opened, answers), ""]).replace(
        "\n\n\n", "\n\n"
    )


CLASS_COLUMNS = ("image", "class", "probability")


def prediction_heading(chosen: Chosen) -> str:
    """ResNet-50 with timm resnet50.a1_in1k, images of 288×288 pixels."""
    height, width = chosen.weights.data.preprocessing.size
    return f"{title(chosen.network.config)}, weights: {chosen.words}, images of {height}×{width} pixels"


def class_rows(found: Iterable[Classified]) -> list[tuple[str, str, str]]:
    """The classes of images, in the order of `CLASS_COLUMNS`."""
    return [
        (plain(one.image, 80), plain(each.name, 60), f"{each.probability:.2%}") for one in found for each in one.classes
    ]


def prediction(found: Sequence[Classified], chosen: Chosen) -> str:
    """The classes of images, as text."""
    rows = [CLASS_COLUMNS, *class_rows(found)]
    wide, name = (max(len(row[place]) for row in rows) for place in (0, 1))
    lines = [f"{image:{wide}}  {what:{name}}  {share:>11}" for image, what, share in rows]
    return "\n".join([prediction_heading(chosen), "", *lines, *(["", *chosen.notes] if chosen.notes else []), ""])


LATENCY_COLUMNS = ("network", "pixels", "MACs", "median ms", "quartiles ms", "least ms", "images/s", "of the first")


def latency_rows(timed: Sequence[Timed], batch: int) -> list[tuple[str, ...]]:
    """Networks with their times, in the order of `LATENCY_COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for one in timed:
        times, ratio = spread([1000 * each for each in one.seconds]), one.against(timed[0])
        share = "1" if one is timed[0] else f"{ratio.median:.2f} ({ratio.lower:.2f}–{ratio.upper:.2f})"
        cells = (f"{times.median:,.2f}", f"{times.lower:,.2f}–{times.upper:,.2f}", f"{times.least:,.2f}")
        pixels = "×".join(map(str, one.traced.image_size))
        rows.append((one.name, pixels, f"{one.traced.macs:,}", *cells, f"{1000 * batch / times.median:,.1f}", share))
    return rows


def latency_lines(timed: Sequence[Timed], machine: Machine, batch: int) -> list[str]:
    """What was measured, and on what, in sentences."""
    rounds = len(timed[0].seconds)
    where = machine.device.partition(",")[0]
    busy = "" if machine.load is None else f", with a load of {machine.load:.1f} in the minute before"
    return [
        f"{rounds} passes of each network over a batch of {batch} in turn, in {machine.form}, with weights at their "
        f"initialisation, on {where}.",
        f"{machine.threads} of torch's threads on {machine.cores} cores{busy}; torch {machine.torch}. Other work on the machine "
        "slows passes.",
    ]


def latency(timed: Sequence[Timed], machine: Machine, batch: int) -> str:
    """Networks with their times, as text."""
    rows = [LATENCY_COLUMNS, *latency_rows(timed, batch)]
    wide = [max(len(row[place]) for row in rows) for place in range(len(LATENCY_COLUMNS))]
    lines = [
        "  ".join([f"{row[0]:{wide[0]}}", *(f"{cell:>{size}}" for cell, size in zip(row[1:], wide[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([*lines, "", *latency_lines(timed, machine, batch), ""])


# -- JSON ---------------------------------------------------------------------------------


def to_json(facts: dict[str, Any]) -> str:
    """An object as JSON that people can read, after the number of its schema."""
    return json.dumps({"schema": SCHEMA} | facts, indent=2, ensure_ascii=False) + "\n"


def network_facts(traced: Trace) -> dict[str, Any]:
    """A network and its totals. Sizes are (height, width), memory is in bytes for one image in fp32."""
    memory = traced.inference_memory
    return {
        **named_facts(traced.config),
        "image_size": traced.image_size,
        "depth": traced.config.depth,
        "parameters": traced.params,
        "macs": traced.macs,
        "memory": {
            "peak": memory.bytes,
            "peak_at": memory.layer.name,
            "least": traced.least_memory.bytes,
            "training": traced.training_memory,
        },
        "receptive_field": field_facts(traced.field),
        "remarks": traced.notes,
    }


def field_facts(field: Field) -> dict[str, int]:
    """Pixels a side, between neighbouring units, and of the first unit's first pixel."""
    return {"size": field.size, "effective_stride": field.effective_stride, "start": field.start}


def layer_facts(traced: Trace) -> list[dict[str, Any]]:
    """The layers in order of execution. Shapes are C×H×W of one image, or C after flattening."""
    return [
        {
            "name": layer.name,
            "operation": layer.op,
            "part": layer.role.group,
            "inputs": traced.sources(layer),
            "output": layer.out_shape,
            "kernel": layer.kernel,
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer.groups,
            "parameters": layer.params,
            "macs": layer.macs,
            "receptive_field": field_facts(layer.field),
        }
        for layer in traced.layers
    ]


def differences(parameters: int, macs: int, size: int, field: int | None) -> dict[str, int | None]:
    """Differences, b minus a: `size` in bytes of outputs, `field` in pixels a side."""
    return {"parameters": parameters, "macs": macs, "bytes": size, "receptive_field": field}


def comparison_facts(compared: Comparison) -> dict[str, Any]:
    """Two networks, and what differs between them."""
    return {
        "image_size": compared.a.image_size,
        "a": network_facts(compared.a),
        "b": network_facts(compared.b),
        "difference": differences(compared.params, compared.macs, compared.memory, compared.field),
        "layers": [
            {
                "name": row_path(row),
                "a": row.a and row.a.label,
                "b": row.b and row.b.label,
                "output_a": row.a and row.a.out_shape,
                "output_b": row.b and row.b.out_shape,
                **differences(row.params, row.macs, row.memory, row.field),
            }
            for row in compared.rows
            if row.differs
        ],
        "bill": [
            {"options": charge.options, "change": charge.words}
            | differences(charge.params, charge.macs, charge.memory, charge.field)
            for charge in compared.bill
        ],
    }


def limit_facts(limits: Limits) -> dict[str, Any]:
    """A budget, null where there is no limit."""
    return {
        "image_size": limits.size,
        "macs": limits.macs or None,
        "parameters": limits.params or None,
        "memory": limits.memory or None,
    }


def named_facts(config: ResNetConfig) -> dict[str, Any]:
    """What a network is called, and its options."""
    return {"title": title(config), "preset": preset_name(config), "config": json.loads(config.to_json())}


def cost_facts(candidate: Candidate) -> dict[str, Any]:
    """What a candidate costs."""
    return {
        "image_size": candidate.image_size,
        "depth": candidate.depth,
        "parameters": candidate.params,
        "macs": candidate.macs,
        "memory": {"peak": candidate.memory, "training": candidate.training_memory},
        "receptive_field": field_facts(candidate.field),
    }


def fits_facts(found: Fits) -> dict[str, Any]:
    """Networks against a budget: those that fit, then the nearest first."""
    return {
        "limits": limit_facts(found.limits),
        "networks": [
            {"name": row.name}
            | named_facts(row.config)
            | (cost_facts(row.candidate) if row.candidate else {})
            | {"over": [{"limit": KEYS[one.measure], "value": one.value, "ratio": one.ratio} for one in row.over]}
            for row in (*found.inside, *found.outside)
        ],
    }


KEYS = {"params": "parameters"} | {name: name for name in ("macs", "memory")}
"""What the JSON calls each limit."""


def search_facts(space: Space, limits: Limits, found: Part, shown: Sequence[Candidate], goals: str) -> dict[str, Any]:
    """The designs that are shown of those that were found."""
    return {
        "limits": limit_facts(limits),
        "space": space.to_text(),
        "designs": {"all": len(space), "within": len(found.candidates), "over": found.over, "invalid": found.invalid},
        "goals": goals or None,
        "networks": [
            {"index": one.index, "query": query_text(one)} | named_facts(one.config) | cost_facts(one) for one in shown
        ],
    }


def checkpoint_facts(name: str, opened: Opened) -> dict[str, Any]:
    """What a checkpoint file is."""
    data = checkpoint_weights(name, opened).data
    return {
        "file": name,
        **named_facts(opened.config),
        "query": checkpoint_query(opened.config),
        "declared": opened.declared,
        "depth": opened.config.depth,
        "parameters": parameters(opened.config),
        "classes": None if opened.headless else opened.config.num_classes,
        "left_out": opened.left_out,
        "questions": [
            {"name": name, "assumed": question.choices[0], "choices": question.choices, "tell": question.tell}
            for name, question in in_order(opened)
        ],
        "notes": opened.notes,
        "not_finite": not_finite(opened.state_dict),
        "data": data.name,
        "preprocessing": preprocessing_facts(data.preprocessing),
        "tensors": [
            {"name": name, "shape": list(tensor.shape), "stored_as": opened.names.get(name)}
            for name, tensor in opened.state_dict.items()
        ],
    }


def preprocessing_facts(how: Preprocessing) -> dict[str, Any]:
    """How images are prepared; sizes in pixels, `size` is (height, width)."""
    return {
        "size": how.size,
        "resize": how.resize,
        "fit": how.fit,
        "bright_on_dark": how.bright_on_dark,
        "interpolation": how.interpolation,
        "mean": how.mean,
        "std": how.std,
    }


def prediction_facts(found: Iterable[Classified], chosen: Chosen, device: Device) -> dict[str, Any]:
    """The classes of images, and the network with the weights that named them."""
    data = chosen.weights.data
    return {
        **named_facts(chosen.network.config),
        "weights": chosen.words,
        "data": data.name,
        "preprocessing": preprocessing_facts(data.preprocessing),
        "device": device.name,
        "notes": chosen.notes,
        "images": [
            {
                "image": one.image,
                "inverted": one.inverted,
                "classes": [each._asdict() for each in one.classes],
                "problem": one.problem or None,
            }
            for one in found
        ],
    }


def latency_facts(timed: Sequence[Timed], machine: Machine, batch: int) -> dict[str, Any]:
    """Networks with their times, in seconds."""
    return {
        "batch": batch,
        "machine": machine._asdict(),
        "networks": [
            {
                "name": one.name,
                **named_facts(one.traced.config),
                "image_size": one.traced.image_size,
                "parameters": one.traced.params,
                "macs": one.traced.macs,
                **spread(one.seconds)._asdict(),
                "ratio": one.against(timed[0])._asdict(),
                "seconds": one.seconds,
            }
            for one in timed
        ],
    }
