"""The network's own source beside notes on it."""

from explorer.navigation import SOURCE
from explorer.views import session, source
from explorer.views.cached import cached_trace
from explorer.views.headline import page_heading
from explorer.views.network import selected_layer
from resnet import title

view = session.view()
page_heading(
    SOURCE, f"The network is {title(view.config)}. Faint lines are those that it passes over. ×n: a line made n layers."
)
trace = cached_trace(view.config, view.image_size)
source.annotated_source(trace, selected_layer(trace, view.at))
