"""The network's own source, and which of its lines made and ran each layer.

Source is read from the files of `resnet`, never copied: an anchor such as
"resnet.blocks.Bottleneck.make_branch" names a function, a class or a field, and moves with it.
A line made a layer where it is on the call stack as the layer is constructed.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import keyword
import sys
import threading
import tokenize
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from html import escape
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import nn

from resnet import ResNet, ResNetConfig, build
from resnet.blocks import BLOCKS

from ..analysis.layers import Layer, Shape
from ..analysis.trace import Trace, reservable

MODULES = ("resnet.blocks", "resnet.model", "resnet.config")

HELPERS = frozenset(
    f"resnet.blocks.{name}"
    for name in ("unfilled", "conv", "norm", "activation", "antialias", "shortcut_norm", "subsampling")
)
"""Functions that make one layer for whoever asks; the line that asks is the layer's own."""


class SourceLine(NamedTuple):
    """A line of a module, counted from 1."""

    module: str
    number: int


# -- reading ------------------------------------------------------------------------------


@lru_cache(maxsize=len(MODULES))
def module_source(module: str) -> str:
    """A module's source as it is on disk."""
    return Path(inspect.getfile(importlib.import_module(module))).read_text(encoding="utf-8")


PARSING = threading.Lock()
"""Python 3.11 counts the depth of what it parses in one place for all threads, and fails where two parse at a time."""


@lru_cache(maxsize=len(MODULES))
def definitions(module: str) -> Mapping[str, ast.AST]:
    """Every function, class and field of a module by its anchor, outer ones first."""
    found: dict[str, ast.AST] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[f"{prefix}.{node.name}"] = node
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}.{node.name}")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[f"{prefix}.{node.target.id}"] = node

    with PARSING:
        tree = ast.parse(module_source(module))
    visit(tree.body, module)
    return found


def definition(anchor: str) -> tuple[str, Any]:
    """The module and the syntax tree of what an anchor names.

    Raises:
        LookupError: where the source has nothing of that name.
    """
    for module in MODULES:
        if anchor in definitions(module):
            return module, definitions(module)[anchor]
    raise LookupError(f"{anchor} is not in the source: a function, class or field of {', '.join(MODULES)} is")


@dataclass(frozen=True)
class Snippet:
    """The lines of one function, class or field, with decorators and the comment above it."""

    anchor: str
    module: str
    first: int
    lines: tuple[str, ...]

    @property
    def path(self) -> str:
        return self.module.replace(".", "/") + ".py"

    @property
    def name(self) -> str:
        return self.anchor.removeprefix(self.module + ".")

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + len(self.lines))

    def __contains__(self, line: SourceLine) -> bool:
        return line.module == self.module and line.number in self.numbers


def snippet(anchor: str) -> Snippet:
    """What an anchor names, as it is in the file.

    Raises:
        LookupError: where the source has nothing of that name.
    """
    module, node = definition(anchor)
    everything = module_source(module).splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    while everything[first - 2].startswith(" " * node.col_offset + "#"):
        first -= 1
    return Snippet(anchor, module, first, tuple(everything[first - 1 : node.end_lineno]))


def enclosing_definition(line: SourceLine) -> str:
    """The anchor of the innermost function or class that a line is in; empty at a module's own level."""
    found = ""
    for anchor, node in definitions(line.module).items():
        if node.lineno <= line.number <= (node.end_lineno or 0):  # type: ignore[attr-defined]
            found = anchor
    return found


# -- from a layer to its lines and back ---------------------------------------------------


@dataclass(frozen=True)
class LineTrace:
    """A network's construction and forward pass, line by line.

    `construction_lines` has, for each layer's name, the lines that were being executed as it was constructed,
    innermost first; `executed` every line that was executed at all.
    """

    config: ResNetConfig
    construction_lines: Mapping[str, tuple[SourceLine, ...]]
    executed: frozenset[SourceLine]

    def line_of(self, layer: str) -> SourceLine:
        """The line that says what this layer is: the innermost one outside the `HELPERS`."""
        return next(line for line in self.construction_lines[layer] if enclosing_definition(line) not in HELPERS)

    @cached_property
    def layers_of(self) -> Mapping[SourceLine, tuple[str, ...]]:
        """The layers that each line made, itself or through what it called."""
        layers: dict[SourceLine, list[str]] = {}
        for name, lines in self.construction_lines.items():
            for line in lines:
                layers.setdefault(line, []).append(name)
        return {line: tuple(names) for line, names in layers.items()}

    def uses(self, snippet: Snippet) -> bool:
        """Whether this network executed any of these lines."""
        return any(SourceLine(snippet.module, number) in self.executed for number in snippet.numbers)

    def skipped(self, snippet: Snippet) -> frozenset[int]:
        """The lines of statements that this network passed over, in a function that it executed."""
        _, node = definition(snippet.anchor)
        if not isinstance(node, ast.FunctionDef) or not self.uses(snippet):
            return frozenset()
        lines: set[int] = set()
        for statement in ast.walk(node):
            if isinstance(statement, ast.stmt) and statement is not node and not _is_docstring(statement):
                reach = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
                if not any(SourceLine(snippet.module, number) in self.executed for number in reach):
                    lines.update(reach)
        return frozenset(lines)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def trace_lines(trace: Trace) -> LineTrace:
    """Construct and run a traced network once more, and note the lines of `resnet` that do it."""
    config = trace.config
    made: dict[int, tuple[SourceLine, ...]] = {}
    ran: set[SourceLine] = set()

    def step(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            ran.add(SourceLine(frame.f_globals["__name__"], frame.f_lineno))
        return step

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code is nn.Module.__init__.__code__:
            module = frame.f_locals["self"]
            made[id(module)] = tuple(_stack(frame, module))
        return step if frame.f_globals.get("__name__") in MODULES else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        network = ResNet(config) if reservable(config) else build(config, device="meta")
        with torch.inference_mode():
            network.eval()(torch.empty(0, *trace.image_shape, device=network.fc.weight.device))
    finally:
        sys.settrace(before)
    names = {layer.name for layer in trace.layers}
    lines = {name: made[id(module)] for name, module in network.named_modules() if name in names}
    return LineTrace(config, MappingProxyType(lines), frozenset(ran))


def _stack(frame: FrameType | None, module: nn.Module) -> Iterator[SourceLine]:
    """The lines of `resnet` that are being executed, innermost first, but for the module's own constructor."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name in MODULES and frame.f_locals.get("self") is not module:
            yield SourceLine(name, frame.f_lineno)
        frame = frame.f_back


# -- running line by line -----------------------------------------------------------------


class ForwardStep(NamedTuple):
    """One call in a `forward`: the shapes C×H×W that it reads and the one that it puts out.

    `layers` are the traced layers it runs, none where the module is an identity.
    """

    line: int
    call: str
    layers: tuple[Layer, ...]
    in_shapes: tuple[Shape, ...]
    out_shape: Shape


def branch_anchor(config: ResNetConfig) -> str:
    """The anchor of the `branch` that this network's blocks run."""
    return _anchor(BLOCKS[config.block, config.order].branch)


def forward_anchor(config: ResNetConfig) -> str:
    """The anchor of the `forward` that this network's blocks run."""
    return _anchor(BLOCKS[config.block, config.order].forward)


def _anchor(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def steps(trace: Trace, followed: LineTrace, anchor: str, block: str = "") -> tuple[ForwardStep, ...]:
    """The calls of a `forward` or `branch` in the order in which they run.

    `block` is the block that runs, such as "layer2.0"; empty for the network itself.
    """
    return _Run(trace, followed, anchor, block).steps()


class _Run:
    """A walk over the few kinds of statement that a forward pass is written in, on shapes instead of maps."""

    def __init__(self, trace: Trace, followed: LineTrace, anchor: str, block: str):
        self.trace, self.followed, self.block = trace, followed, block
        self.module, self.node = definition(anchor)
        self.made: list[ForwardStep] = []
        self.prefix = f"{block}." if block else ""
        first = trace.inside(block)[0]
        self.shapes = {argument.arg: first.in_shapes[0] for argument in self.node.args.args[1:]}

    def steps(self) -> tuple[ForwardStep, ...]:
        self.run(self.node.body)
        return tuple(self.made)

    def run(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if SourceLine(self.module, statement.lineno) not in self.followed.executed:
                continue
            if isinstance(statement, ast.For):
                self.run_stages(statement)
            elif isinstance(statement, ast.If):
                self.run(statement.body)
            elif isinstance(statement, ast.Assign):
                shape = self.shape(statement.value)
                for target in statement.targets:
                    if isinstance(target, ast.Name) and shape is not None:
                        self.shapes[target.id] = shape
            elif isinstance(statement, ast.Return) and statement.value is not None:
                self.shape(statement.value)

    def run_stages(self, loop: ast.For) -> None:
        for number in range(1, len(self.trace.config.layers) + 1):
            self.stage = f"layer{number}"
            self.run(loop.body)

    def shape(self, node: ast.expr) -> Shape | None:
        """The shape of an expression's value; its calls become steps. None for what is no feature map."""
        if isinstance(node, ast.Name):
            return self.shapes.get(node.id)
        if isinstance(node, ast.IfExp):
            return self.shape(node.body)
        if not isinstance(node, ast.Call):
            return None
        if isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "self":
            name, call = node.func.attr, f"self.{node.func.attr}"
        elif isinstance(node.func, ast.Name) and node.func.id == "stage":
            name, call = self.stage, self.stage
        else:
            return None
        reads = tuple(shape for argument in node.args if (shape := self.shape(argument)) is not None)
        layers = self.branch() if name == "branch" else self.layers(name)
        puts = layers[-1].out_shape if layers else reads[0]
        self.made.append(ForwardStep(node.lineno, call, layers, reads, puts))
        return puts

    def layers(self, name: str) -> tuple[Layer, ...]:
        return self.trace.inside(self.prefix + name)

    def branch(self) -> tuple[Layer, ...]:
        inner = steps(self.trace, self.followed, branch_anchor(self.trace.config), self.block)
        return tuple(layer for step in inner for layer in step.layers)


# -- showing ------------------------------------------------------------------------------


@lru_cache(maxsize=len(MODULES))
def highlighted(module: str) -> tuple[str, ...]:
    """A module's lines as HTML, their words marked k (keyword), d (defined name), s (string), c (comment), n (number)."""
    lines = module_source(module).splitlines()
    marks: dict[int, list[tuple[int, int, str]]] = {}
    before = ""
    for token in tokenize.generate_tokens(io.StringIO(module_source(module)).readline):
        kind = {tokenize.STRING: "s", tokenize.COMMENT: "c", tokenize.NUMBER: "n"}.get(token.type, "")
        if token.type == tokenize.NAME:
            kind = "d" if before in ("def", "class") else "k" if keyword.iskeyword(token.string) else ""
        before = token.string
        for number in range(token.start[0], token.end[0] + 1) if kind else ():
            line = lines[number - 1]
            start = token.start[1] if number == token.start[0] else len(line) - len(line.lstrip())
            end = token.end[1] if number == token.end[0] else len(line)
            marks.setdefault(number, []).append((start, end, kind))
    return tuple(_marked(line, marks.get(number, [])) for number, line in enumerate(lines, start=1))


def _marked(line: str, marks: list[tuple[int, int, str]]) -> str:
    out, at = "", 0
    for start, end, kind in marks:
        out += escape(line[at:start]) + f"<i class={kind}>{escape(line[start:end])}</i>"
        at = end
    return out + escape(line[at:])


def html(
    snippet: Snippet,
    marked: Collection[int] = (),
    idle: Collection[int] = (),
    counts: Mapping[int, int] = MappingProxyType({}),
) -> str:
    """The lines with their numbers; `marked` ones stand out, `idle` ones recede, `counts` stand at the right.

    A long line wraps, hanging below its own indentation.
    """
    rows, lines = "", highlighted(snippet.module)
    margin = min(len(line) - len(line.lstrip()) for line in snippet.lines if line.strip())
    for number, line in zip(snippet.numbers, snippet.lines, strict=True):
        indent = max(0, len(line) - len(line.lstrip()) - margin)
        classes = " ".join([*(["marked"] if number in marked else []), *(["idle"] if number in idle else [])])
        count = f"<b title='layers that this line made'>×{counts[number]:,}</b>" if number in counts else ""
        breakable = lines[number - 1].strip().replace("(", "(<wbr>") or " "
        rows += (
            f"<li class='{classes}'><span>{number}</span><code style='--in:{indent}ch'>{breakable}</code>{count}</li>"
        )
    return f"<ol class='source'>{rows}</ol>"
