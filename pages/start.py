"""The way in: what residual networks are about, the paper's Table 1, and three ways on."""

from explorer.views import start

start.heading()
start.doors()
start.body()
