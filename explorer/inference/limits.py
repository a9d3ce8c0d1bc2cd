"""What one image on a shared server may take, told before a pass is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..analysis.cost import work_macs
from ..analysis.layers import shape_text
from ..analysis.trace import Trace
from .turns import TooLargeError

MAX_WEIGHT_BYTES = 2**30
MAX_FORWARD_BYTES = 2**30
MAX_GRADIENT_BYTES = 2**31
MAX_WORK_MACS = 200e9
"""What one image on a shared server may take: beside the weights, forward, and forward and back; and in multiply-adds."""


TOO_LARGE = frozenset(
    {
        "ecaresnet269d.ra2_in1k",
        "resnetrs270.tf_in1k",
        "resnetrs350.tf_in1k",
        "resnetrs420.tf_in1k",
        "resnext101_32x32d.fb_wsl_ig1b_ft_in1k",
        "seresnextaa201d_32x8d.sw_in12k",
        "seresnextaa201d_32x8d.sw_in12k_ft_in1k_384",
    }
)
"""The published weights that `check_runnable` refuses in their network at their size: to trace all that are published takes
seconds, and a list of them is drawn at every click."""


def check_runnable(
    trace: Trace, name: str = "This network", otherwise: str = "Everything but running it works"
) -> None:
    """Whether a forward pass of one image fits this server; its `name`, and what is so `otherwise`, are for a sentence.

    Raises:
        TooLargeError: where weights, memory or work exceed a limit.
    """
    check_needs(
        f"{name} is too large to run here",
        otherwise,
        Need("its weights take", trace.params * 4, MAX_WEIGHT_BYTES, "GiB"),
        Need("an image takes", trace.working_memory, MAX_FORWARD_BYTES, "GiB"),
        Need("its arithmetic and memory traffic take the time of", work_macs(trace), MAX_WORK_MACS, "GMACs"),
    )


def check_batches(traces: Sequence[Trace], batch: int) -> None:
    """Whether several networks fit this server together, and a pass of each over a batch.

    Raises:
        TooLargeError: where weights, memory or work exceed a limit.
    """
    check_needs(
        "These networks are too large to measure here",
        "Fewer networks work, or a smaller batch or image",
        Need("their weights take", 4 * sum(trace.params for trace in traces), MAX_WEIGHT_BYTES, "GiB"),
        Need("a batch takes", batch * max(trace.working_memory for trace in traces), MAX_FORWARD_BYTES, "GiB"),
        Need("a batch takes the time of", batch * max(map(work_macs, traces)), MAX_WORK_MACS, "GMACs"),
    )


def check_gradients(trace: Trace) -> None:
    """Whether a pass forward and back of one image, which holds all activations, fits this server.

    Raises:
        TooLargeError: where they exceed the limit.
    """
    check_needs(
        f"Gradients at {shape_text(trace.image_size)} pixels are too large to take here",
        "A smaller image works, or a smaller network",
        Need("activations take", trace.gradient_memory, MAX_GRADIENT_BYTES, "GiB"),
    )


class Need(NamedTuple):
    """What something takes, in words with an estimate, its limit and their unit."""

    subject: str
    estimate: float
    limit: float
    unit: str


UNITS = {"GiB": 2**30, "GMACs": 1e9}


def check_needs(refusal: str, alternative: str, *needs: Need) -> None:
    """
    Raises:
        TooLargeError: where a need is above its limit, in one sentence and what works instead.
    """
    for need in needs:
        if need.estimate > need.limit:
            amounts = [amount / UNITS[need.unit] for amount in (need.estimate, need.limit)]
            estimate, limit = (f"{amount:,.{0 if amount >= 100 else 1}f} {need.unit}" for amount in amounts)
            raise TooLargeError(f"{refusal}: {need.subject} {estimate}, and the limit is {limit}. {alternative}.")
