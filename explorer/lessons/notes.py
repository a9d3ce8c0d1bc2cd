"""Notes on the network's source, one an idea, each anchored to what it is about.

A note's words are a function of the traced network: every number in them is computed. `note` above that function gives
the note its title, its place and its links. Formulas are LaTeX
between dollar signs, in the symbols of `SYMBOLS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from resnet import OPTIONS, PRESETS, ConfigError, preset, title
from resnet.weights import available

from .. import navigation
from ..analysis.layers import NORMS, Layer, Op, convolutions, shape_text
from ..analysis.published import published
from ..analysis.trace import Trace, trace
from ..link import View, natural_size
from ..units import amount


class Symbol(NamedTuple):
    """A letter of the formulas, what it stands for, and what the code calls it."""

    letter: str
    meaning: str
    code: str


SYMBOLS = (
    Symbol("x", "input of a block", "x"),
    Symbol("F(x)", "branch: the block's convolutions", "branch"),
    Symbol("S(x)", "shortcut: the way around them", "downsample"),
    Symbol(r"\sigma", "activation, such as ReLU", "act"),
    Symbol("y", "output of a block", "y"),
    Symbol("W_s", "weights of a projection", "projection"),
    Symbol("C", "channels: $C_{in}$ read, $C_{out}$ put out", "inputs, outputs"),
    Symbol("H, W", "height and width of a map", "H × W"),
    Symbol("k", "side of a kernel", "kernel"),
    Symbol("s", "stride: steps between windows", "stride"),
    Symbol("d", "dilation: steps within a kernel", "dilation"),
    Symbol("P", "planes: the base width of a stage", "planes"),
    Symbol("e", "expansion: $C_{out} = e P$", "expansion"),
)
"""The legend, in the order in which a reader meets them."""


Words = Callable[[Trace], str]
"""Markdown about a traced network."""


@dataclass(frozen=True)
class Try:
    """A page where a note's claim can be tried, and what to look at there."""

    page: navigation.Page
    label: str
    view: Callable[[View], View] = lambda view: view


@dataclass(frozen=True)
class Note:
    """One idea beside the lines that `anchor` names; `built` is whether building and running a network runs them."""

    part: str
    anchor: str
    title: str
    text: Words
    tries: tuple[Try, ...] = ()
    built: bool = True

    @property
    def key(self) -> str:
        """A name for the page's own links."""
        return "note-" + "-".join(word for word in self.title.lower().replace("×", "x").split() if word.isalnum())


_notes: list[Note] = []


def note(
    title: str, *, part: str, anchor: str, tries: tuple[Try, ...] = (), built: bool = True
) -> Callable[[Words], Words]:
    """Makes the function below the text of a note; notes stand in the order of their functions."""

    def add(text: Words) -> Words:
        _notes.append(Note(part, anchor, title, text, tries, built))
        return text

    return add


# -- where notes stand and lead -----------------------------------------------------------

IDEA, PARTS, BLOCKS, SHORTCUTS, NETWORK, SIZES, LATER = (
    "The idea",
    "The parts",
    "The blocks",
    "The shortcuts",
    "The network",
    "The configurations",
    "Later additions",
)

B, M, C = "resnet.blocks", "resnet.model", "resnet.config.ResNetConfig"


def _beside(**changes: object) -> Callable[[View], View]:
    """The view with one changed network set beside its own; itself where it cannot be built."""

    def view(now: View) -> View:
        try:
            return replace(now, others=(now.config.with_(**changes)[0],))
        except ConfigError:
            return now

    return view


def _tab(name: str, experiment: str = "") -> Callable[[View], View]:
    return lambda now: replace(now, tab=name, experiment=experiment or now.experiment)


def _become(name: str) -> Callable[[View], View]:
    def view(now: View) -> View:
        config = preset(name)
        return View(config, natural_size(config), at=now.at)

    return view


CLAIMS = Try(navigation.CLAIMS, "See the claims checked")
KERNELS = Try(navigation.KERNELS, navigation.KERNELS.title)
ACCURACIES = Try(navigation.CHOOSE, "See published accuracies")
DEGRADATION = Try(navigation.EXPERIMENTS, "Train plain and residual networks", _tab("Degradation"))
IDENTITY = Try(navigation.EXPERIMENTS, "Append blocks that copy", _tab("Identity"))
GRADIENTS = Try(navigation.EXPERIMENTS, "Measure its gradients", _tab("Gradients", experiment="own"))
SHATTERED = Try(navigation.EXPERIMENTS, "Gradients of neighbouring inputs", _tab("Shattered gradients"))
PATHS = Try(navigation.EXPERIMENTS, "Count and follow the paths", _tab("Paths"))


# -- what the notes read off a trace ------------------------------------------------------

Block = tuple[Layer, ...]


def first_changing_block(t: Trace) -> Block:
    """The first block whose shapes differ at its two ends, else the first."""
    every = list(t.blocks.values())
    return next((block for block in every if in_shape(block) != out_shape(block)), every[0])


def in_shape(block: Block) -> tuple[int, ...]:
    return block[0].in_shapes[0]


def out_shape(block: Block) -> tuple[int, ...]:
    return block[-1].out_shape


def first_blocks(t: Trace) -> list[Block]:
    """The first block of each stage."""
    return [t.blocks[stage[0].block] for stage in t.stages]


def block_name(block: Block) -> str:
    return block[0].block


def shortcut_kind(block: Block) -> str:
    """What a block's S(x) is, from the layers that were traced on it."""
    if not any(layer.op == Op.ADDITION for layer in block):
        return "none"
    ops = [layer.op for layer in block if layer.role.on_shortcut]
    if not ops:
        return "identity"
    if Op.AVERAGE_POOLING in ops:
        return "pooled projection"
    return "zero padding" if Op.ZERO_PADDING in ops else "projection"


def outside_attention(layers: Iterable[Layer]) -> list[Layer]:
    """The convolutions that are in no attention."""
    return [layer for layer in convolutions(layers) if not layer.role.in_attention]


def branch_convolutions(block: Block) -> list[Layer]:
    return [layer for layer in outside_attention(block) if not layer.role.on_shortcut]


def count(number: int, what: str) -> str:
    return f"{number:,} {what}" + "s" * (number != 1)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the first column is text and the others numbers, which do not break.

    A head has words or letters and is no mere formula, of which a screen reader says nothing.
    """
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    for row in rows:
        cells = [cell.replace(" ", "\N{NO-BREAK SPACE}") if re.search(r"\d", cell) else cell for cell in map(str, row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n" + "\n".join(lines) + "\n"


def tex(number: int) -> str:
    """A number within a formula: a bare comma would be set as punctuation."""
    return f"{number:,}".replace(",", "{,}")


class Bill(NamedTuple):
    """Parameters of a network, and the parameters and MACs of its shortcuts."""

    params: int
    shortcut_params: int
    shortcut_macs: int


def bill(t: Trace, kind: str) -> Bill | None:
    """What this network would cost with another shortcut; None where it cannot be built.

    From the third block of a stage on, each costs what the second does, so two are traced.
    """
    counts = t.config.layers
    try:
        config, _ = t.config.with_(shortcut=kind, layers=tuple(min(n, 2) for n in counts))
    except ConfigError:
        return None
    layers = [
        (layer, max(1, counts[layer.role.stage - 1] - 1) if layer.role.block == 1 else 1)
        for layer in trace(config, t.image_size).layers
    ]
    added = [(layer, times) for layer, times in layers if layer.role.on_shortcut]
    return Bill(
        sum(layer.params * times for layer, times in layers),
        sum(layer.params * times for layer, times in added),
        sum(layer.macs * times for layer, times in added),
    )


# -- the idea -----------------------------------------------------------------------------


@note(
    "A block adds a change",
    part=IDEA,
    anchor=f"{B}.Block.forward",
    tries=(
        CLAIMS,
        Try(navigation.INFERENCE, "See the addition on an image", _tab("Addition")),
        DEGRADATION,
        IDENTITY,
        PATHS,
    ),
)
def forward(t: Trace) -> str:
    deep, shallow = preset("plain56"), preset("plain20")
    adds = len(t.additions)
    here = (
        f"{title(t.config)} adds {count(adds, 'time')}, once a block."
        if adds
        else f"{title(t.config)} is a plain network: $y = \\sigma(F(x))$, and nothing is added."
    )
    return f"""$$y = \\sigma(F(x) + S(x))$$

A block does not compute $y$ from nothing. It computes a *change* $F(x)$ and adds it to what it was given.
Where shapes allow it, $S(x) = x$. {here}

**Why.** Plain networks get worse when they get too deep, on the training data too. The paper's are
{deep.depth} layers against {shallow.depth} on CIFAR-10. Yet a deep network *could* be as good as a shallow one:
take the shallow one and let each further layer copy its input. So such weights exist, and training does not find them.
With a shortcut, copying is the easy case: $F(x) = 0$ is enough."""


@note(
    "What the branch learns",
    part=IDEA,
    anchor=f"{B}.Block.forward",
    tries=(
        CLAIMS,
        DEGRADATION,
        SHATTERED,
        Try(navigation.CHOOSE, "Compare with the plain network", _beside(shortcut="none")),
    ),
)
def difference(t: Trace) -> str:
    paper = {result.network: result.top1 for result in published() if result.recipe == "paper"}
    convs = branch_convolutions(first_changing_block(t))
    return f"""If the best map is some $M(x)$, the branch has to learn only the rest: $F(x) = M(x) - x$, the *residual*.
That is the reason for the name. $F$ is two or three convolutions; here it is {len(convs)}.

**Not vanishing gradients.** The authors rule them out. Each convolution is followed by batch normalisation, so
signals keep a variance. They checked the size of the gradients. And the deep plain network
still learns: top-1 accuracy {paper["plain34"]:.2%} on ImageNet for {preset("plain34").depth} layers.

**Not too few steps.** More training did not close the gap. The authors *suspect* that deep plain networks
converge exponentially slowly. This is a conjecture: no proof is given, for it or for the cure. The evidence is
experiments."""


@note(
    "The addition needs equal shapes",
    part=IDEA,
    anchor=f"{B}.Add",
    tries=(Try(navigation.ARCHITECTURE, "Find it in the diagram"),),
)
def addition(t: Trace) -> str:
    if not t.additions:
        return (
            "A plain network makes no `Add`. Choose a shortcut in the sidebar and one appears at the end of each block."
        )
    last = t.additions[-1]
    return f"""$F(x)$ and $S(x)$ are added number by number. So their shapes must be equal: in `{last.name}` both are
{shape_text(last.out_shape)}. This one rule is why shortcuts need the options below.

The addition has no weights. It is a module of its own so that the trace can see it."""


# -- the parts ----------------------------------------------------------------------------


@note(
    "One helper for every convolution",
    part=PARTS,
    anchor=f"{B}.conv",
    tries=(Try(navigation.ARCHITECTURE, "See every layer"),),
)
def helper(t: Trace) -> str:
    every = outside_attention(t.layers)
    sizes = Counter(layer.kernel for layer in every)
    first = every[0]
    counted = ", ".join(f"{n:,} of {k}×{k}" for k, n in sorted(sizes.items()))
    odd = [k for k in sizes if k not in (1, 3)]
    also = (
        f" It is often said that a ResNet has no others than 3×3 and 1×1: the {odd[0]}×{odd[0]} in the stem is one."
        if odd
        else " No other size occurs."
    )
    height, out = first.in_shapes[0][1], first.out_shape[1]
    reach = first.dilation * (first.kernel - 1)
    return f"""Both kinds of convolution come from here. The padding is $d (k-1)/2$ on each side, so that $H$ and $W$
stay as they are at $s = 1$, which is the default. In general

$$H_{{out}} = \\lfloor (H + 2\\cdot\\text{{padding}} - d(k-1) - 1) / s \\rfloor + 1$$

`{first.name}`: $\\lfloor ({height} + {2 * first.padding} - {reach} - 1)/{first.stride} \\rfloor + 1 = {out}$.

This network has {counted}.{also}

{
        "A norm follows each convolution and would take its bias away again. So there is none."
        if t.config.norm != "none"
        else "Without a norm, each convolution has a bias."
    }"""


@note("Why 3×3", part=PARTS, anchor=f"{B}.conv", tries=(Try(navigation.KERNELS, "Stack kernels against a large one"),))
def three_by_three(t: Trace) -> str:
    stack, single = 3 * 3**2, 7**2
    return f"""A 3×3 kernel is the smallest that knows left from right and up from down. Stacked, small kernels see far:
three 3×3 convolutions with $s = 1$ see $1 + 3 \\cdot 2 = {1 + 3 * 2}$ positions a side, as one 7×7 does. At equal $C$ they
need $3 \\cdot 3^2 C^2 = {stack} C^2$ weights against $7^2 C^2 = {single} C^2$, and have three activations instead of one.
The price is depth: each output waits for the one before.

This holds at stride 1 and equal width. In a stem, the stride makes the sum come out differently."""


@note(
    "What a 1×1 does",
    part=PARTS,
    anchor=f"{B}.conv",
    tries=(Try(navigation.KERNELS, "Compute a 1×1 by hand", _tab("The 1×1 convolution")),),
)
def one_by_one(t: Trace) -> str:
    ones = [layer for layer in outside_attention(t.layers) if layer.kernel == 1]
    if ones:
        layer = ones[0]
        c_in, c_out = layer.in_shapes[0][0], layer.out_shape[0]
        weights = c_in // layer.groups * c_out
        here = f"`{layer.name}` has {c_out:,} sums of {c_in // layer.groups:,} channels: ${tex(c_in // layer.groups)} \\cdot {tex(c_out)} = {tex(weights)}$ weights."
    else:
        here = f"{title(t.config)} has none."
    return f"""With $k = 1$ each position is computed alone. Output channel $j$ is its own weighted sum of the input channels:

$$y_j = \\sum_i w_{{ji}} x_i$$

It is *not* one sum that is copied with different weights: every output has a row of weights of its own. So a 1×1
convolution is a matrix of $C_{{out}} \\times C_{{in}}$, applied at each position. It makes $C$ smaller or larger and leaves
$H$ and $W$ alone. {here}"""


@note(
    "Normalisation",
    part=PARTS,
    anchor=f"{B}.norm",
    tries=(Try(navigation.CHOOSE, "Compare without it", _beside(norm="none")), GRADIENTS),
)
def normalisation(t: Trace) -> str:
    norms = [layer for layer in t.layers if layer.op in NORMS]
    if not norms:
        return "This network has no normalisation: each `norm` is an identity, and convolutions get a bias instead."
    kind = norms[0].op
    over = "one channel over the batch" if kind == Op.BATCH_NORM else "a group of channels of one image"
    return f"""Normalisation subtracts the mean $m$ of {over}, divides by the standard deviation, then scales and shifts:

$$\\gamma \\, \\dfrac{{x - m}}{{\\sqrt{{v + \\varepsilon}}}} + \\beta$$

$v$ is the variance, $\\varepsilon$ a tiny number. $\\gamma$ and $\\beta$ are learnt, one of each a channel.
Here {count(len(norms), kind)} hold {sum(layer.params for layer in norms):,} parameters,
{sum(layer.params for layer in norms) / t.params:.2%} of all. In use, batch normalisation has fixed numbers and is a
plain scale and shift."""


ACTIVATION = {
    "relu": r"\sigma(x) = \max(0, x)",
    "leaky_relu": r"\sigma(x) = \max(0.01x, x)",
    "elu": r"\sigma(x) = x \text{ if } x > 0 \text{ else } e^{x} - 1",
    "silu": r"\sigma(x) = x / (1 + \exp(-x))",
    "gelu": r"\sigma(x) = x \cdot \Phi(x)",
}


@note(
    "The non-linearity",
    part=PARTS,
    anchor=f"{B}.activation",
    tries=(Try(navigation.INFERENCE, "See maps before and after"),),
)
def non_linearity(t: Trace) -> str:
    kind = t.config.activation
    used = sum(layer.op == Op.activation(kind) for layer in t.layers)
    formula = ACTIVATION[kind].replace("e^{x}", r"\exp(x)")
    words = (
        "ReLU turns negative numbers into zero and keeps the others. There is no upper limit. Many outputs are exactly "
        "zero, so do not divide by them."
        if kind == "relu"
        else "$\\Phi$ is the normal distribution's share below $x$."
        if kind == "gelu"
        else "It lets some of the negative numbers through; ReLU would make them zero."
    )
    return f"""$${formula}$$

{words} Without $\\sigma$, two convolutions in a row would be just one. This network uses it {count(used, "time")}, each
a module of its own, so that each has a place in the diagram."""


# -- blocks -------------------------------------------------------------------------------


@note(
    "What every block has",
    part=BLOCKS,
    anchor=f"{B}.Block.__init__",
    tries=(Try(navigation.ARCHITECTURE, "See the block"),),
)
def any_block(t: Trace) -> str:
    block = first_changing_block(t)
    extras = []
    if t.config.attention != "none":
        extras.append("channel attention")
    if any(layer.op == Op.STOCHASTIC_DEPTH for layer in t.layers):
        extras.append("stochastic depth")
    also = (
        f"Here {' and '.join(extras)} act on $F(x)$ before the addition."
        if extras
        else "Attention and stochastic depth are identities here: they cost nothing."
    )
    return f"""Every block is made in this order: the branch, what acts on the branch, the shortcut, the last activation.
A subclass supplies only the branch. {also}

`downsample` is torchvision's name for $S(x)$. In `{block_name(block)}` it is
**{shortcut_kind(block) if shortcut_kind(block) != "none" else "not made: the network is plain"}**.

`place` holds what differs from block to block; `config` what they share. No block changes either."""


@note(
    "The basic block",
    part=BLOCKS,
    anchor=f"{B}.BasicBlock.make_branch",
    tries=(Try(navigation.SOURCE, "Open these lines with ResNet-18", _become("resnet18")),),
)
def basic(t: Trace) -> str:
    if t.config.block != "basic":
        c = out_shape(t.blocks["layer1.0"])[0]
        return f"""Two 3×3 convolutions with as many channels inside as outside. {title(t.config)} does not use it: at the
$C = {c}$ of its first stage, one such block would have $2 \\cdot 3^2 C^2 = {tex(2 * 9 * c * c)}$ weights. Bottlenecks need
fewer."""
    block = first_changing_block(t)
    convs = branch_convolutions(block)
    rows = [
        (f"`{layer.role.slot}`", f"{layer.in_shapes[0][0]} → {layer.out_shape[0]}", layer.stride, f"{layer.params:,}")
        for layer in convs
    ]
    return f"""Two 3×3 convolutions, each with a norm. The first one may have $s = 2$; it also changes $C$.
The second keeps both. `inputs` and `planes` are $C_{{in}}$ and $P$, and $C_{{out}} = P$ since $e = 1$.

In `{block_name(block)}`:
{table(("layer", "*C*", "*s*", "parameters"), rows)}"""


@note("Running the basic block", part=BLOCKS, anchor=f"{B}.BasicBlock.branch")
def basic_run(t: Trace) -> str:
    return """$$F(x) = \\text{norm}(W_2 * \\sigma(\\text{norm}(W_1 * x)))$$

$W_1$ and $W_2$ are the weights of the two convolutions, $*$ is convolution. There is **no activation at the end**: $F(x)$ may be
negative, so that a block can take away as well as add. $\\sigma$ comes after the addition."""


@note(
    "The bottleneck",
    part=BLOCKS,
    anchor=f"{B}.Bottleneck.make_branch",
    tries=(
        Try(navigation.KERNELS, "The block, up close", _tab("The block")),
        Try(navigation.SOURCE, "Open these lines with ResNet-50", _become("resnet50")),
    ),
)
def bottleneck(t: Trace) -> str:
    c = 256
    wide = first_changing_block(t)
    if t.config.block == "bottleneck":
        c = out_shape(wide)[0]
    p = c // 4
    two, three = 2 * 9 * c * c, c * p + 9 * p * p + p * c
    head = f"""**Reduce, look, expand.** The 1×1 makes $C$ smaller, the 3×3 works on few channels, the second 1×1 makes
$C$ larger again. `inputs` is $C_{{in}}$. `planes` is $P$; the 3×3 has `width` channels, which is $P$ unless groups or the
base width say otherwise.

At $C = {c}$ and $P = C/4 = {p}$:

- two 3×3: $2 \\cdot 3^2 \\cdot {c}^2 = {tex(two)}$ weights
- 1×1, 3×3, 1×1: ${c} \\cdot {p} + 3^2 \\cdot {p}^2 + {p} \\cdot {c} = {tex(three)}$ weights

That is {two / three:.1f} times fewer. Each product has *both* channel counts; leave one out and the comparison is wrong."""
    if t.config.block != "bottleneck":
        return head + f"\n\n{title(t.config)} has basic blocks, so these lines do not run."
    rows = [
        (
            f"`{layer.role.slot}` {layer.kernel}×{layer.kernel}",
            f"{layer.in_shapes[0][0]} → {layer.out_shape[0]}",
            layer.stride,
            f"{layer.params:,}",
        )
        for layer in branch_convolutions(wide)
    ]
    return f"{head}\n\nIn `{block_name(wide)}`:\n{table(('layer', '*C*', '*s*', 'parameters'), rows)}"


@note("Running the bottleneck", part=BLOCKS, anchor=f"{B}.Bottleneck.branch")
def bottleneck_run(t: Trace) -> str:
    return """$$F(x) = \\text{norm}(W_3 * \\sigma(\\text{norm}(W_2 * \\sigma(\\text{norm}(W_1 * x)))))$$

One line a convolution. $W_1$ and $W_3$ are 1×1, $W_2$ is 3×3. As in the basic block, the last step is a norm and not $\\sigma$.

The *channels* get fewer in the middle, always. The *map* gets smaller only in a block with $s > 1$, and that is at most
the first one of a stage."""


@note(
    "Where the stride goes",
    part=BLOCKS,
    anchor=f"{C}.stride_in",
    tries=(Try(navigation.CHOOSE, "Compare both places", _beside(block="bottleneck", stride_in="1x1")),),
)
def stride_in(t: Trace) -> str:
    if t.config.block == "basic":
        return "A basic block has no 1×1 convolution, so there is no choice: its first 3×3 has the stride."
    where = [layer for block in t.blocks.values() for layer in branch_convolutions(block) if layer.stride > 1]
    here = (
        f"Here `{where[0].name}` is the first that has it ({where[0].kernel}×{where[0].kernel})."
        if where
        else "Here no convolution of a branch has it."
    )
    unread = 1 - 1 / 4
    return f"""A 1×1 convolution with $s = 2$ never looks at {unread:.0%} of the positions. The paper has it there ("v1").
torchvision moved the stride into the 3×3 ("v1.5"), whose windows overlap and read every position. It costs more MACs and
sees further. {here}"""


@note("The expansion", part=BLOCKS, anchor=f"{C}.expansion", tries=(Try(navigation.ARCHITECTURE, "See the shapes"),))
def expansion(t: Trace) -> str:
    e = t.config.expansion
    rows = [
        (f"stage {n}", p, f"{e} · {p} = {p * e}", out_shape(first)[0])
        for n, (p, first) in enumerate(zip(t.config.planes, first_blocks(t), strict=True), start=1)
    ]
    return f"""Why is it needed? A bottleneck puts out more channels than its $P$ says. Whoever comes next, the
following block or the classifier, has to read $C_{{out}} = e P$. With $e$ in one place, `stages` need not know which kind of block
it is stacking: $e = 1$ for basic, $e = 4$ for bottleneck. Here $e = {e}$.
{table(("stage", "*P*", "*e P*", "$C$ traced"), rows)}"""


# -- shortcuts ----------------------------------------------------------------------------


@note(
    "When the shortcut must change",
    part=SHORTCUTS,
    anchor=f"{B}.shortcut",
    tries=(
        Try(navigation.ARCHITECTURE, "See them in the diagram"),
        Try(
            navigation.KERNELS,
            "One block that changes its shape",
            lambda view: replace(view, tab="The block", lab="entry-B"),
        ),
    ),
)
def condition(t: Trace) -> str:
    rows = [
        (
            f"`{block_name(b)}`",
            shape_text(in_shape(b)),
            shape_text(out_shape(b)),
            t.config.stage_strides[b[0].role.stage - 1][0],
            shortcut_kind(b),
        )
        for b in first_blocks(t)
    ]
    rest = Counter(shortcut_kind(b) for b in t.blocks.values() if b[0].role.block > 0)
    others = ", ".join(f"{n:,} × {kind}" for kind, n in rest.items())
    return f"""$F(x) + x$ makes sense only if both have the same shape. That fails in two cases: $C_{{in}} \\neq C_{{out}}$, or
$s > 1$. `same` asks for both. It is often put as a question of channels alone; a stride counts as well.

The first block of each stage is where it can fail:
{table(("block", "reads", "puts out", "*s*", "*S(x)*"), rows)}
{f"The other blocks: {others}." if others else "There are no other blocks."}"""


@note(
    "Padding with zeros",
    part=SHORTCUTS,
    anchor=f"{B}.PadShortcut",
    tries=(Try(navigation.CHOOSE, "Compare with option A", _beside(shortcut="A")),),
)
def zero_padding(t: Trace) -> str:
    block = first_changing_block(t)
    (c_in, h, w), (c_out, h2, w2) = in_shape(block), out_shape(block)
    if c_out < c_in:
        return f"""**Option A** fills missing channels with zeros. In `{block_name(block)}` channels get fewer, from {c_in} to {c_out},
so it cannot be used in this network."""
    return f"""**Option A.** Keep every $s$-th row and column of $x$. Fill the missing channels with zeros:

$$C_{{out}} - C_{{in}} = {c_out} - {c_in} = {c_out - c_in} \\text{{ channels of zeros}}$$

for `{block_name(block)}`, {c_in}×{h}×{w} to {c_out}×{h2}×{w2}. No weights and no MACs. The new channels get nothing from the
shortcut; only $F(x)$ fills them."""


@note(
    "Projecting",
    part=SHORTCUTS,
    anchor=f"{B}.projection",
    tries=(Try(navigation.CHOOSE, "Compare with option B", _beside(shortcut="B")),),
)
def projected(t: Trace) -> str:
    found = [layer for layer in t.convolutions if layer.role.on_shortcut]
    total = sum(layer.params for layer in found)
    here = (
        f"Here {count(len(found), 'projection')} with {total:,} weights, {total / t.params:.1%} of all parameters."
        if found
        else f"{title(t.config)} has none."
    )
    return f"""**Options B and C.** A 1×1 convolution brings $x$ to the right shape:

$$y = \\sigma(F(x) + W_s x)$$

$W_s$ is $C_{{out}} \\times C_{{in}}$. It has the block's stride, and so skips positions when $s = 2$. A norm follows, as
it follows the branch. {here}"""


@note(
    "Pooling before projecting",
    part=SHORTCUTS,
    anchor=f"{B}.pooled_projection",
    tries=(Try(navigation.CHOOSE, "Compare with option D", _beside(shortcut="D")),),
)
def pooled(t: Trace) -> str:
    return """**Option D**, from later work. The average of 2×2 positions comes first and takes the stride. Then the 1×1 convolution
with $s = 1$ skips nothing. Where the block has $s = 1$, the pooling is an identity and this is option B; only where $d$
grows in place of the stride does it average all the same."""


@note("What each option costs", part=SHORTCUTS, anchor=f"{C}.shortcut", tries=(ACCURACIES, CLAIMS))
def options(t: Trace) -> str:
    rows = []
    for kind in map(str, OPTIONS["shortcut"].choices):
        label, cost = f"**{kind}**" if kind == t.config.shortcut else kind, bill(t, kind)
        if cost is None:
            rows.append((label, "cannot be built", "", ""))
        else:
            rows.append((label, f"{cost.params:,}", f"{cost.shortcut_params:,}", amount(cost.shortcut_macs)))
    paper = {
        result.config.shortcut: result.top1
        for result in published()
        if result.recipe == "paper"
        and result.config.with_(shortcut="B")[0] == preset("resnet34")
        and result.config.shortcut != "none"
    }
    measured = ", ".join(f"{kind} {top1:.2%}" for kind, top1 in sorted(paper.items()))
    return f"""The bill for this network, by option:
{table(("option", "parameters", "of shortcuts", "their MACs"), rows)}
Identity and A add no weights and no MACs, only the additions. B and D pay where shapes differ, C everywhere.

C also transforms $x$ where the shapes already fit. The paper finds the identity enough. ResNet-34's top-1 accuracy
on ImageNet in its Table 2 and 3: {measured}. C is only a little better than B, and likely so because it has more parameters."""


# -- the network --------------------------------------------------------------------------


@note(
    "The stem",
    part=NETWORK,
    anchor=f"{M}.stem",
    tries=(Try(navigation.CHOOSE, "Compare with a deep stem", _beside(stem="deep")), KERNELS),
)
def stem(t: Trace) -> str:
    convs = convolutions(t.inside("conv1"))
    rows = [
        (
            f"`{layer.name}` {layer.kernel}×{layer.kernel}",
            f"{layer.in_shapes[0][0]} → {layer.out_shape[0]}",
            layer.stride,
            f"{layer.out_shape[1]}×{layer.out_shape[2]}",
            amount(layer.macs),
        )
        for layer in convs
    ]
    beyond = t.beyond_windows(convs[-1])
    return f"""The stem turns the image into the first map. It is the one place where the paper uses a 7×7: the image has only
{count(t.config.in_channels, "channel")}, so a large kernel is cheap, and $s = 2$ saves work early. For small images one 3×3 at full
size is the usual choice.
{table(("layer", "*C*", "*s*", "*H × W*", "MACs"), rows)}
After `conv1`, one unit sees {convs[-1].field.size} pixels a side. {beyond}""".rstrip()


@note(
    "Pooling after the stem",
    part=NETWORK,
    anchor=f"{M}.stem_pool",
    tries=(Try(navigation.CHOOSE, "Compare without it", _beside(stem_pool="none")),),
)
def pool(t: Trace) -> str:
    layers = t.inside("maxpool")
    if not layers:
        return "This network does not pool after the stem: the first stage reads the stem's map at its full size."
    return f"""Max pooling keeps the largest number of each 3×3 window and moves by two. It has no weights.
Here: {shape_text(layers[0].in_shapes[0])} becomes {shape_text(layers[-1].out_shape)}. With the stem's stride, the stages read a map that
is {t.config.stem_stride} times smaller than the image on each side."""


@note("Making the stages", part=NETWORK, anchor=f"{M}.places", tries=(Try(navigation.ARCHITECTURE, "See the stages"),))
def making(t: Trace) -> str:
    opening = first_blocks(t)
    rows = [
        (
            f"`layer{n}`",
            t.config.layers[n - 1],
            f"{in_shape(first)[0]} → {out_shape(first)[0]}",
            stride if dilation == 1 else f"{stride}, $d$ {dilation}",
            shortcut_kind(first),
            shape_text(out_shape(first)[1:]),
        )
        for n, (first, (stride, dilation)) in enumerate(zip(opening, t.config.stage_strides, strict=True), start=1)
    ]
    projects = [f"`layer{n}`" for n, first in enumerate(opening, start=1) if "projection" in shortcut_kind(first)]
    said = f"A projection is made in {', '.join(projects)}." if projects else "No stage makes a projection."
    start = (
        "since the stem has already made the map small"
        if t.config.stem_stride > 1
        else "so it works at the full size of the image"
    )
    widened = t.config.expansion > 1 and in_shape(opening[0])[0] != out_shape(opening[0])[0]
    return f"""A stage is a run of blocks at one map size. The loop hands on three things: `inputs`, the $C$ of the last block;
the dilation; how many blocks there are so far. Only the first block of a stage gets the stride.
{table(("stage", "blocks", "$C_{in}$ → $C_{out}$", "*s*", "first $S(x)$", "*H × W*"), rows)}
{said} The first stage has $s = 1$, {start}.
{"But $P$ is multiplied by $e$, so its first block changes $C$ all the same." if widened else ""}"""


@note("The design rules", part=NETWORK, anchor=f"{C}.stage_strides", tries=(CLAIMS,))
def rules(t: Trace) -> str:
    rows = []
    for n, stage in enumerate(t.stages, start=1):
        last = t.blocks[stage[-1].block]
        c, h, w = out_shape(last)
        macs = sum(layer.macs for layer in branch_convolutions(last))
        rows.append((f"stage {n}", f"{c}×{h}×{w}", amount(c * h * w), amount(macs)))
    return f"""Two rules, taken from VGG. **Same map size, same $C$.** **Half the size, twice the $C$.** And most kernels are 3×3.

The stride does the shrinking: a convolution with $s = 2$ halves $H$ and $W$, so no pooling is needed between stages.
What the rules hold constant is the *work*: a 3×3 at equal width costs $3^2 C^2 H W$, and $C^2$ grows fourfold while $H W$
falls to a quarter. It is not $C H W$, the size of the map, that stays: that one halves.
{table(("stage", "map", "*C H W*", "MACs of last branch"), rows)}
Beyond the output stride, here {t.config.output_stride}, $d$ doubles instead of the map halving. In all, this network makes
each side {t.config.total_stride} times smaller."""


@note(
    "The whole network is made",
    part=NETWORK,
    anchor=f"{M}.ResNet.__init__",
    tries=(Try(navigation.ARCHITECTURE, "See it whole"),),
)
def head(t: Trace) -> str:
    fc = t.by_name["fc"]
    last = t.by_name["avgpool"].in_shapes[0]
    return f"""Stem, stages, head. The head takes the mean of each channel over all positions, so that any image size gives
one vector: {shape_text(last)} → {last[0]}. One linear layer turns it into {count(t.config.num_classes, "score")}:
${fc.in_shapes[0][0]} \\cdot {fc.out_shape[0]} + {fc.out_shape[0]} = {tex(fc.params)}$ parameters, {fc.params / t.params:.1%} of all.
VGG had three such layers, and most of its weights were in them.

`layer1`, `layer2`, … and the other names are torchvision's, so that its weights can be loaded."""


@note(
    "The whole network runs",
    part=NETWORK,
    anchor=f"{M}.ResNet.forward",
    tries=(Try(navigation.INFERENCE, "Run an image through it"),),
)
def whole(t: Trace) -> str:
    return f"""From image to scores. A {shape_text(t.image_shape)} image becomes
{count(t.config.num_classes, "score")}. A score is not a probability yet: softmax comes later, where it is needed.

Step through it to see the map shrink and $C$ grow."""


@note(
    "First weights",
    part=NETWORK,
    anchor=f"{M}.ResNet.initialise",
    tries=(Try(navigation.INFERENCE, "Look at the weights", _tab("Weights")), IDENTITY),
    built=False,
)
def initial(t: Trace) -> str:
    first = t.convolutions[0]
    fan = first.kernel**2 * first.out_shape[0] // first.groups
    three = next((layer for layer in outside_attention(t.layers) if layer.kernel == 3 and layer.block), first)
    fan3 = three.kernel**2 * three.out_shape[0] // three.groups
    every = available(t.config, t.image_size)
    weights = [w.title for w in every if not w.hub]
    if named := [w for w in every if w.hub]:
        weights.append(f"{len(named)} that timm publishes, such as `{named[0].key}`")
    zero = (
        "Here the branches start at zero: at first, each block is its shortcut."
        if t.config.zero_init_residual
        else "With `zero_init_residual` each $F(x)$ would start at zero."
    )
    return f"""Weights start as normal noise whose size is chosen so that signals keep theirs through ReLU:

$$\\text{{std}} = \\sqrt{{2 / (k^2 C_{{out}})}}$$

(with groups, $C_{{out}}$ of one group). `{first.name}`: $\\sqrt{{2/{tex(fan)}}} = {(2 / fan) ** 0.5:.4f}$. `{three.name}`:
$\\sqrt{{2/{tex(fan3)}}} = {(2 / fan3) ** 0.5:.4f}$. Norms start at $\\gamma = 1$, $\\beta = 0$. {zero}

Trained weights take the place of these. For this network there are: {"; ".join(weights)}."""


# -- configurations -----------------------------------------------------------------------

NAMED = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@note("Configurations with names", part=SIZES, anchor=f"{C}.layers", tries=(ACCURACIES,))
def configurations(t: Trace) -> str:
    rows = [
        (title(preset(key)), preset(key).block, "-".join(map(str, preset(key).layers)), preset(key).depth)
        for key in NAMED
    ]
    if t.config not in (preset(key) for key in NAMED):
        config = t.config
        rows.append((f"**{title(config)}**", config.block, "-".join(map(str, config.layers)), config.depth))
    else:
        rows = [(f"**{row[0]}**", *row[1:]) if row[0] == title(t.config) else row for row in rows]
    return f"""A network is a handful of numbers. All else is the same code:
{table(("network", "block", "blocks a stage", "depth"), rows)}
The paper's second family is for 32×32 images: three stages of $n$ blocks and depth $6n + 2$, from {preset("resnet20").depth} to
{preset("resnet1202").depth}. This app knows {len(PRESETS)} networks by name."""


@note("Widths double", part=SIZES, anchor=f"{C}.planes", tries=(Try(navigation.ARCHITECTURE, "See the widths"),))
def doubling(t: Trace) -> str:
    planes = t.config.planes
    ratios = [f"{b / a:g}" for a, b in pairwise(planes)]
    here = f"from stage to stage ×{', ×'.join(ratios)}" if ratios else "one stage only"
    return f"""$P$ of each stage: {", ".join(map(str, planes))}; {here}. Nobody has to tune a kernel, stride or padding for each of
{t.config.depth} layers: two rules and this list fix them all."""


@note(
    "Counting the depth",
    part=SIZES,
    anchor=f"{C}.depth",
    tries=(
        Try(navigation.CHOOSE, "Compare with ResNet-152", lambda view: replace(view, others=(preset("resnet152"),))),
    ),
    built=False,
)
def depth(t: Trace) -> str:
    c = t.config
    per = 3 if c.block == "bottleneck" else 2
    outside = c.depth - per * sum(c.layers)
    return f"""The number in the name counts layers with weights on the longest path: convolutions and the classifier. Projections stand
beside the path and do not count; neither do norms.

$${outside} + {per} \\cdot ({" + ".join(map(str, c.layers))}) = {c.depth}$$

The {outside} are the stem{" with its pool" if c.stem_pool == "conv" else ""} and the classifier. Deep is really deep: the paper goes to
{preset("resnet152").depth} layers on ImageNet and {preset("resnet1202").depth} on CIFAR-10. A loop makes that no harder to write."""


# -- later additions ----------------------------------------------------------------------


@note(
    "Activation first",
    part=LATER,
    anchor=f"{B}.PreActivation.forward",
    tries=(Try(navigation.CHOOSE, "Compare both orders", _beside(order="pre")), IDENTITY),
)
def pre_forward(t: Trace) -> str:
    here = (
        f"{title(t.config)} is built like this."
        if t.config.order == "pre"
        else f"{title(t.config)} has the order of 2015, so these lines do not run. "
        "Choose *pre* under *Activation order* to see them run."
    )
    return f"""$$y = S(x) + F(\\sigma(\\text{{norm}}(x)))$$

Here norm and $\\sigma$ come *before* each convolution, and nothing follows the addition. So from the first block to the last
there is a path on which $x$ is only added to. {here}"""


@note("The basic block, activation first", part=LATER, anchor=f"{B}.PreActBasicBlock")
def pre_basic(t: Trace) -> str:
    return """The same two convolutions. What changes is which channels the norms have: `bn1` now normalises what the block
*reads*, $C_{in}$ channels, and there is a second activation."""


@note("The bottleneck, activation first", part=LATER, anchor=f"{B}.PreActBottleneck")
def pre_bottleneck(t: Trace) -> str:
    return """The same three convolutions, each with its norm and activation in front. `bn1` has $C_{in}$ channels, and `bn3` as
many as the inside, since it stands before the 1×1 that expands."""


@note(
    "Groups and width",
    part=LATER,
    anchor=f"{C}.width",
    tries=(
        Try(
            navigation.CHOOSE,
            "Compare with ResNeXt-50",
            lambda view: replace(view, others=(preset("resnext50_32x4d"),)),
        ),
    ),
)
def width(t: Trace) -> str:
    c = t.config
    rows = [(f"stage {n}", p, c.width(p), p * c.expansion) for n, p in enumerate(c.planes, start=1)]
    return f"""How many channels the 3×3 of a bottleneck has. Groups split them into parts that do not mix: the weights of
a 3×3 are divided by the number of groups, so ResNeXt can have more channels for the same cost.
Here: {count(c.groups, "group")}, base width {c.base_width}.
{table(("stage", "*P*", "inside", "put out"), rows)}"""


@note(
    "Weighing channels",
    part=LATER,
    anchor=f"{B}.SqueezeExcitation",
    tries=(Try(navigation.CHOOSE, "Compare with attention", _beside(attention="se")),),
)
def squeeze(t: Trace) -> str:
    found = [layer for layer in t.layers if ".se.fc1" in layer.name]
    here = (
        f"`{found[0].name}` narrows {found[0].in_shapes[0][0]} channels to {found[0].out_shape[0]}."
        if found
        else f"{title(t.config)} has none."
    )
    return f"""Squeeze-and-excitation multiplies each channel of $F(x)$ by a number from 0 to 1. The number comes from the mean of
every channel over the whole image, through two small layers. So a channel can be turned down where it is of no use. {here}"""


@note(
    "Weighing channels, lighter",
    part=LATER,
    anchor=f"{B}.EfficientChannelAttention",
    tries=(Try(navigation.CHOOSE, "Compare with attention", _beside(attention="eca")),),
)
def efficient(t: Trace) -> str:
    found = [layer for layer in t.layers if layer.op == Op.CHANNEL_CONVOLUTION]
    here = (
        f"In `{found[0].name}` the kernel spans {found[0].kernel} channels, {found[0].params} weights."
        if found
        else f"{title(t.config)} has none."
    )
    return f"""The same idea with hardly any weights: one small kernel slides along the channels. {here}"""


@note(
    "Filtering before subsampling",
    part=LATER,
    anchor=f"{B}.subsampling",
    tries=(Try(navigation.CHOOSE, "Compare with a blur", _beside(antialias="blur")),),
)
def subsample(t: Trace) -> str:
    filters = [layer for layer in t.layers if layer.op in (Op.BLUR, Op.AVERAGE_POOLING) and not layer.role.on_shortcut]
    found = [layer for layer in filters if layer.stride > 1]
    still = " A dilated stage still blurs, and takes every position." if len(found) < len(filters) else ""
    here = (
        f"Here {count(len(found), 'filter')} do it.{still}"
        if found
        else f"{title(t.config)} does not filter: the convolution has the stride."
    )
    return f"""Taking every second position folds fine patterns into false coarse ones (aliasing). With anti-aliasing, the
convolution keeps $s = 1$ and a low-pass filter after it takes the stride. {here}"""


@note("Dropping branches in training", part=LATER, anchor=f"{B}.DropPath", tries=(PATHS,))
def stochastic(t: Trace) -> str:
    found = [layer for layer in t.layers if layer.op == Op.STOCHASTIC_DEPTH]
    here = (
        f"Here the last block is left out with chance {t.config.drop_path:g}."
        if found
        else f"{title(t.config)} has none."
    )
    return f"""In training, $F(x)$ is sometimes dropped for a whole image, so that $y = \\sigma(S(x))$. What remains is scaled up, so that
the mean stays. In use, nothing is dropped. That it works shows how far each block is only a *change*. {here}"""


NOTES = tuple(_notes)
"""Every idea, in reading order."""
