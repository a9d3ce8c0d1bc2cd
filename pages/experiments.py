"""The experiments behind residual networks."""

from explorer.navigation import EXPERIMENTS
from explorer.views import session, tabs
from explorer.views.cached import cached_trace
from explorer.views.experiments import degradation, gradients, identity, landscape, paths
from explorer.views.headline import page_heading

PANELS = {
    "Degradation": degradation.panel,
    "Gradients": gradients.panel,
    "Shattered gradients": gradients.shattered_panel,
    "Paths": paths.panel,
    "Identity": identity.panel,
    "Loss landscape": landscape.panel,
}
"""The experiments by the name of their tab; each takes the trace of the network that is shown."""

view = session.view()
trace = cached_trace(view.config, view.image_size)
page_heading(EXPERIMENTS)
tabs.tabs(PANELS, trace)
