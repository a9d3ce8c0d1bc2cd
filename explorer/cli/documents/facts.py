"""Parts of the JSON that several commands print."""

from __future__ import annotations

import json
from typing import Any

from resnet import ResNetConfig, preset_name, title
from resnet.datasets import Preprocessing

from ...analysis.receptive_field import Field
from ...analysis.trace import Trace


def named_facts(config: ResNetConfig) -> dict[str, Any]:
    """What a network is called, and its options."""
    return {"title": title(config), "preset": preset_name(config), "config": json.loads(config.to_json())}


def field_facts(field: Field) -> dict[str, int]:
    """Pixels a side, between neighbouring units, and of the first unit's first pixel."""
    return {"size": field.size, "effective_stride": field.effective_stride, "start": field.start}


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
