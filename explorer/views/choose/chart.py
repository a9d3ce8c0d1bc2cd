"""The scatter of published accuracies under the budget."""

from __future__ import annotations

from contextlib import suppress

import plotly.graph_objects as go
import streamlit as st

from resnet import ResNetConfig, title

from ...analysis.choose import Budget
from ...analysis.measured import others
from ...figures.choose import COSTS, choose_figure
from .. import session, tabs
from ..cached import shared
from ..components import plot
from .published import open_result
from .table import cached_points, cached_row


def chart(budget: Budget, height: int) -> None:
    """The scatter, of a cost to choose; a click on a point opens its network."""
    measure = tabs.segments("Against", list(COSTS), "against", label_visibility="collapsed")
    config = session.view().config
    key = f"accuracy {measure}"

    def open_network() -> None:
        with suppress(LookupError, TypeError):  # no point, or one that no browser sends
            place = st.session_state[key]["selection"]["points"][0]["customdata"][0]
            open_result(cached_points(budget)[place].result)

    figure = cached_figure(measure, budget, config, height)
    plot(figure, key=key, on_select=open_network, selection_mode="points")


@shared()
def cached_figure(measure: str, budget: Budget, config: ResNetConfig, height: int) -> go.Figure:
    row = cached_row(budget, config)
    figure = choose_figure(cached_points(budget), measure, budget, row, title(config), others())
    return figure.update_layout(height=height)


def words(budget: Budget) -> str:
    """How the chart and the table are read."""
    height, width = budget.size
    return (
        f"Every cost is traced at {height}×{width} pixels. A point is hollow where its accuracy was measured at another image size, "
        "and faint, as its row is, where the network is over budget. A click on a point opens its network. Other families' MACs and "
        "memory are not known here; their parameters and latencies, at their own image size, are."
    )
