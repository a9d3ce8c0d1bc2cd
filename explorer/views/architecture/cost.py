"""What a network costs, stage by stage or layer by layer, as a chart."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from resnet.options import Settings, option

from ...analysis.trace import Trace
from ...figures.network import MEASURES, cost_figure
from .. import settings
from ..components import plot

STAGE, LAYER = "by stage", "by layer"


@dataclass(frozen=True)
class CostSettings(Settings):
    """What the chart shows.

    Raises:
        ConfigError: for a value outside its range.
    """

    key = "cost"
    example = "grain-by.layer"

    measure: str = option(next(iter(MEASURES)), "Measure", "", choices=tuple(MEASURES))
    grain: str = option(STAGE, "Shown", "", choices=(STAGE, LAYER))


def panel(trace: Trace) -> None:
    """The chart, and what it shows to choose."""
    settings.problem(CostSettings)
    with st.container(horizontal=True):
        for name in CostSettings.options():
            settings.setting(CostSettings, name, "The chart is unchanged.", segmented=True, width="content")
    chosen = settings.chosen(CostSettings)
    plot(cost_figure(trace, chosen.measure, chosen.grain == LAYER), key="cost chart")
