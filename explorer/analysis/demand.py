"""Does a network fit into a memory? What a pass and a training step take at each moment, for any batch.

All bytes grow in a straight line with the batch, so that one walk along the layers answers for every batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from types import MappingProxyType
from typing import NamedTuple

from resnet.options import Settings, option

from ..units import mebibytes
from .cost import weight_factors
from .forms import (
    HALF,
    KERNEL,
    NOTHING,
    PRECISIONS,
    Bytes,
    Form,
    Precision,
    back_scratch_bytes,
    back_steps,
    is_view,
    number_sizes,
    output_bytes,
    owners,
    reads_again,
    scratch_bytes,
    side_bytes,
    total,
    weight_copies,
)
from .layers import FLOAT, IMAGE, NORMS, Layer, Op
from .memory import freed_after, inference_lifetimes
from .trace import Trace

GIB = 2**30
COUNTER = 8
"""Bytes of a batch norm's count of batches (int64)."""


class Optimizer(NamedTuple):
    """What an optimiser of `torch.optim` keeps when it is given no options but its learning rate and momentum.

    `states` are numbers a parameter in the parameter's form; `scalars` fp32 numbers for each tensor of parameters, which lie in
    the CPU's memory; `working` numbers a parameter that a step on a GPU makes and drops (`foreach`).
    """

    label: str
    states: int
    scalars: int = 0
    working: int = 0


OPTIMIZERS: Mapping[str, Optimizer] = MappingProxyType(
    {
        "sgd": Optimizer("SGD", 0),
        "momentum": Optimizer("SGD with momentum", 1),
        "rmsprop": Optimizer("RMSprop", 1, 1, 1),
        "adam": Optimizer("Adam", 2, 1, 1),
        "adamw": Optimizer("AdamW", 2, 1, 1),
    }
)


class Term(StrEnum):
    """What takes memory."""

    WEIGHTS = "weights"
    BUFFERS = "buffers"
    STATES = "optimiser states"
    GRADIENTS = "gradients"
    COPIES = "autocast copies"
    INPUT = "input images"
    SAVED = "saved activations"
    WORKING = "maps in work"


# -- what is asked ------------------------------------------------------------------------

MAX_BATCH, MAX_GIB = 65_536, 999


@dataclass(frozen=True)
class Workload(Settings):
    """What a network is to do, and the memory that it is to fit into.

    As text, for a link: "batch-64_precision-bf16_optimizer-adamw".

    Raises:
        ConfigError: for a value outside its range.
    """

    key = "memory"
    example = "batch-64_precision-bf16"

    batch: int = option(32, "Batch", "Images at once.", low=1, high=MAX_BATCH)
    precision: str = option(
        Precision.FP32.value,
        "Precision",
        "; ".join(f"{name}: {words}" for name, words in PRECISIONS.items()) + ".",
        choices=tuple(map(str, Precision)),
    )
    optimizer: str = option("momentum", "Optimiser", "With torch.optim's own options.", choices=tuple(OPTIMIZERS))
    within: float = option(24.0, "Memory in GiB", "For the largest batch.", low=0.1, high=MAX_GIB)

    @property
    def form(self) -> Form:
        """The precision, on a GPU."""
        return Form(Precision(self.precision))

    @property
    def memory(self) -> int:
        """Bytes that it is to fit into."""
        return round(self.within * GIB)

    def inference(self, trace: Trace) -> Demand:
        """What a prediction takes of a network."""
        return inference_demand(trace, self.form)

    def training(self, trace: Trace) -> Demand:
        """What a step of training takes."""
        return training_demand(trace, self.form, OPTIMIZERS[self.optimizer])


def verdict(asked: Workload, prediction: Demand, training: Demand) -> tuple[str, str]:
    """What a network takes and what would fit, in two sentences."""
    batch = "one image" if asked.batch == 1 else f"a batch of {asked.batch:,}"
    label, words = OPTIMIZERS[asked.optimizer].label, Precision(asked.precision).words
    takes = (
        f"For {batch}, {words}, a step of training with {label} takes {mebibytes(training.bytes(asked.batch))} at its peak and "
        f"a prediction {mebibytes(prediction.bytes(asked.batch))}."
    )
    trained, predicted = (found.largest_batch(asked.memory) for found in (training, prediction))
    room = f"{asked.within:g} GiB"
    if not trained:
        rest = f"; of predictions up to {predicted:,} at once" if predicted else ", and none predicted"
        return takes, f"Within {room} not even one image can be trained on{rest}."
    fits = "It fits" if trained >= asked.batch else "Training does not fit"
    return takes, f"{fits} into {room}: up to {trained:,} images a step, and up to {predicted:,} predicted at once."


NOT_COUNTED = (
    "The sizes of all tensors as PyTorch makes them on a GPU. Not counted are the loss, what cuDNN works in, what torch's allocator "
    "rounds up, and what the driver takes: a GPU has less free than it is sold with."
)

GPUS = (8, 12, 16, 24, 40, 80)
"""GiB of memory that GPUs usually have."""


# -- moments ------------------------------------------------------------------------------

Amounts = dict[Term, Bytes]


class Moment(NamedTuple):
    """What is alive at one moment, `total` bytes in all, and which moment that is, in words."""

    when: str
    amounts: Mapping[Term, Bytes]
    total: Bytes


@dataclass(frozen=True)
class Demand:
    """What a network takes: its moments, but for those that take no more than another whatever the batch."""

    moments: tuple[Moment, ...]

    def peak(self, batch: int) -> Moment:
        """The moment that takes most for so many images."""
        return max(self.moments, key=lambda moment: moment.total.of(batch))

    def bytes(self, batch: int) -> int:
        """The most bytes at once for so many images."""
        return self.peak(batch).total.of(batch)

    def terms(self, batch: int) -> dict[Term, int]:
        """The bytes of each term at the peak in the order of `Term`; their sum is `bytes`."""
        amounts = self.peak(batch).amounts
        return {term: size for term in Term if (size := amounts.get(term, NOTHING).of(batch))}

    def largest_batch(self, memory: int) -> int:
        """How many images fit into so many bytes at the most; 0 where not even one does."""
        batches = [(memory - one.total.fixed) // one.total.each for one in self.moments]
        return max(0, min(batches))


def demand(moments: Iterable[Moment]) -> Demand:
    """Of all moments."""
    kept: list[Moment] = []
    for moment in sorted(moments, key=lambda moment: moment.total, reverse=True):  # most fixed bytes first
        if not kept or moment.total.each > kept[-1].total.each:
            kept.append(moment)
    return Demand(tuple(kept))


def inference_demand(trace: Trace, form: Form) -> Demand:
    """What a forward pass takes without gradients in evaluation mode, weights and the batch with it.

    In fp32 and for one image its maps are `Trace.inference_memory`. Autocast keeps its copies of the weights until it ends.
    """
    live = Live(resting(trace, form))
    return demand(
        live.moment(f"forward through {layer.name}", more)
        for layer, more in forward(trace.layers, form, live, training=False)
    )


def training_demand(trace: Trace, form: Form, optimizer: Optimizer) -> Demand:
    """What a step of training takes from the second one on: forward, back, and the optimiser's step.

    Gradients are None before it, as `zero_grad` leaves them. The loss itself is not counted.
    """
    return demand(training_moments(trace, form, optimizer))


def training_moments(trace: Trace, form: Form, optimizer: Optimizer) -> Iterator[Moment]:
    """The moments of a step of training."""
    held = resting(trace, form) | {Term.STATES: state_bytes(trace, form, optimizer)}
    live = Live(dict(held))
    for layer, more in forward(trace.layers, form, live, training=True):
        yield live.moment(f"forward through {layer.name}", more)
    live.amounts[Term.WORKING] = NOTHING
    for layer, more in backward(trace.layers, form, live):
        yield live.moment(f"back through {layer.name}", more)
    numbers = trace.params * form.weight
    step = Live(held | {Term.GRADIENTS: Bytes(numbers)})
    yield step.moment("the optimiser's step", Bytes(optimizer.working * numbers))


@dataclass
class Live:
    """What is alive, as a walk along the layers finds it."""

    amounts: Amounts

    def take(self, term: Term, amount: Bytes) -> None:
        """More of a term."""
        self.amounts[term] = self.amounts.get(term, NOTHING).plus(amount)

    def free(self, term: Term, amount: Bytes) -> None:
        """Less of a term."""
        self.amounts[term] = self.amounts[term].minus(amount)

    def moment(self, when: str, more: Bytes) -> Moment:
        """This moment, in which `more` is in work."""
        amounts = self.amounts | {Term.WORKING: self.amounts.get(Term.WORKING, NOTHING).plus(more)}
        fixed, each = map(sum, zip(*amounts.values(), strict=True))
        return Moment(when, amounts, Bytes(fixed, each))


def resting(trace: Trace, form: Form) -> Amounts:
    """What is there before a pass, and after."""
    return {
        Term.WEIGHTS: Bytes(trace.params * form.weight),
        Term.BUFFERS: Bytes(sum(buffer_bytes(layer, form) for layer in trace.layers)),
        Term.INPUT: Bytes(each=prod(trace.image_shape) * form.weight),
    }


def buffer_bytes(layer: Layer, form: Form) -> int:
    """Bytes of a layer's buffers: running mean, variance and count of a batch norm, and a blur's kernel, of which fp32 keeps
    one for all channels."""
    if layer.op == Op.BATCH_NORM:
        return 2 * layer.out_shape[0] * form.weight + COUNTER
    if layer.op == Op.BLUR:
        return KERNEL * (layer.out_shape[0] * HALF if form.precision == Precision.BF16 else FLOAT)
    return 0


def state_bytes(trace: Trace, form: Form, optimizer: Optimizer) -> Bytes:
    """Bytes of an optimiser's states after a step, where the network is."""
    scalars = 0 if form.gpu else optimizer.scalars * sum(map(parameter_tensors, trace.layers))
    return Bytes(optimizer.states * trace.params * form.weight + scalars * FLOAT)


def parameter_tensors(layer: Layer) -> int:
    """How many tensors hold a layer's parameters."""
    if not layer.params:
        return 0
    return 2 if layer.op in NORMS or layer.params > prod(weight_factors(layer) or ()) else 1


# -- forward and back ---------------------------------------------------------------------


def forward(layers: Sequence[Layer], form: Form, live: Live, training: bool) -> Iterator[tuple[Layer, Bytes]]:
    """Go through the layers; while each runs, what is `live`, and what its operation takes besides."""
    sizes, owner = number_sizes(layers, form), owners(layers, training)
    again = {owner[tensor] for layer in layers for tensor in reads_again(layer, form, sizes)} if training else set()
    freed = freed_after(layers, owner, inference_lifetimes(layers))
    biases = 0
    for layer in layers:
        if owner[layer.index] == layer.index:
            live.take(Term.SAVED if layer.index in again else Term.WORKING, output_bytes(layer, sizes))
        side, scratch = (make(layer, form, sizes, training) for make in (side_bytes, scratch_bytes))
        copy, bias = weight_copies(layer, form)
        biases += bias
        live.take(Term.COPIES, Bytes(copy + bias))
        if training:
            live.take(Term.SAVED, side)
        yield layer, scratch if training else scratch.plus(side)
        for tensor in freed.get(layer.index, ()):
            if tensor not in again and tensor != IMAGE:
                live.free(Term.WORKING, output_bytes(layers[tensor], sizes))
    live.free(Term.COPIES, Bytes(biases))


def backward(layers: Sequence[Layer], form: Form, live: Live) -> Iterator[tuple[Layer, Bytes]]:
    """Go back through the layers, last one first; while each runs, what is `live`, and what its operation takes besides.

    What was saved goes when the first layer that needs it is through. An addition hands its gradient on to both of its inputs;
    gradients that meet are added in place where no other reads them.
    """
    sizes, owner = number_sizes(layers, form), owners(layers, training=True)
    first_reader: dict[int, int] = {}
    for layer in reversed(layers):
        first_reader |= {owner[tensor]: layer.index for tensor in reads_again(layer, form, sizes) if tensor != IMAGE}
    done: dict[int, list[int]] = {layer.index: [] for layer in layers}
    for tensor, index in first_reader.items():
        done[index].append(tensor)
    scores = output_bytes(layers[-1], sizes)
    coming = {layers[-1].index: Gradient(scores)}
    live.take(Term.WORKING, scores.plus(scores))  # they and their gradient
    for layer in reversed(layers):
        gradient, side = coming.pop(layer.index), side_bytes(layer, form, sizes, training=True)
        for step in back_steps(layer, sizes):
            live.take(Term.WORKING, step)
            yield layer, NOTHING
            live.free(Term.WORKING, gradient.let_go())
            gradient = Gradient(step)
            if layer.op == Op.BLUR:  # its convolution is through
                live.free(Term.SAVED, side)
                side = NOTHING
        handed = list(hand_on(gradient, layer, layers, sizes))
        live.take(Term.WORKING, total(new.size for _, new in handed if new is not gradient))
        copy, bias = weight_copies(layer, form)
        half, whole = Bytes(copy + bias), Bytes(layer.params * form.weight)
        live.take(Term.GRADIENTS, half if copy else whole)
        yield layer, back_scratch_bytes(layer, form, sizes)
        live.free(Term.WORKING, gradient.let_go())
        live.free(Term.SAVED, side)
        for tensor in done[layer.index]:
            live.free(Term.SAVED, output_bytes(layers[tensor], sizes))
        live.free(Term.COPIES, Bytes(copy))
        for producer, new in handed:
            if (old := coming.get(producer)) is None:
                coming[producer] = new
            elif old.alone:
                live.free(Term.WORKING, new.let_go())
            else:
                coming[producer] = Gradient(old.size)
                live.take(Term.WORKING, old.size)
                yield layer, NOTHING
                live.free(Term.WORKING, old.let_go().plus(new.let_go()))
        for part in filter(None, (copy, bias)):  # one after the other becomes fp32
            live.take(Term.GRADIENTS, Bytes(part))
            yield layer, Bytes(part)


@dataclass
class Gradient:
    """The gradient of a map on its way back, its bytes, and how many hold it."""

    size: Bytes
    holders: int = 1

    @property
    def alone(self) -> bool:
        """Whether another may be added to it in place."""
        return self.holders == 1

    def let_go(self) -> Bytes:
        """Hold it no more: the bytes that are free then."""
        self.holders -= 1
        return NOTHING if self.holders else self.size


def hand_on(
    gradient: Gradient, layer: Layer, layers: Sequence[Layer], sizes: Mapping[int, int]
) -> Iterator[tuple[int, Gradient]]:
    """The gradients of a layer's inputs, each with the layer that made the input: its output's own where it may be."""
    for producer in layer.inputs:
        if producer == IMAGE:
            continue
        if layer.op == Op.ADDITION or is_view(layer, training=True):
            gradient.holders += 1
            yield producer, gradient
        else:
            yield producer, Gradient(output_bytes(layers[producer], sizes))
