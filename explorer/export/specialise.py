"""The source of the network for one configuration alone: what others need is left out, and what remains reads as it did.

A module's text is changed in place, so that its comments, names and line breaks stay: conditions that a configuration
settles are settled, the parameter `config` goes, and what was read from it becomes a constant (`config.num_classes` is
NUM_CLASSES). Then `reachable` keeps what can be reached.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

WIDTH = 120
"""Characters of a line, as the rest of the source has them."""

UNKNOWN = object()
"""The value of what a configuration does not settle."""

Body = Sequence[ast.stmt]


parsed = lru_cache(maxsize=16)(ast.parse)
"""A module's syntax tree."""


def first_line(statement: ast.stmt) -> int:
    """Where a statement begins, its decorators with it."""
    return min([statement.lineno, *(mark.lineno for mark in getattr(statement, "decorator_list", ()))])


def stored(target: ast.expr) -> list[str]:
    """The names that an assignment to this target gives values."""
    return [node.id for node in ast.walk(target) if isinstance(node, ast.Name)]


def elements(statement: ast.stmt) -> list[tuple[ast.expr, ast.expr]]:
    """The targets of an assignment, each with its value; none where they do not stand side by side."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return []
    target, value = statement.targets[0], statement.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [] if isinstance(target, ast.Tuple) else [(target, value)]


class Text:
    """A module's text by the places that its syntax tree names, which count bytes."""

    def __init__(self, source: str):
        self.lines = source.splitlines()
        self.data = source.encode()
        self.starts = [0]
        for line in self.data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))

    def span(self, node: Any) -> tuple[int, int]:
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def edited(self, begin: int, end: int, edits: Iterable[Edit]) -> str:
        """The bytes from `begin` to `end` with those edits that lie between them."""
        parts, at = [], begin
        for start, stop, text in sorted(edits):
            if begin <= start and stop <= end:
                parts += [self.data[at:start].decode(), text]
                at = stop
        return "".join([*parts, self.data[at:end].decode()])

    def without(self, spans: Sequence[tuple[int, int]], dropped: Sequence[bool]) -> Iterator[Edit]:
        """The edits that take some of a list's elements out, which stand at `spans`, with the commas between them."""
        last = max((index for index, gone in enumerate(dropped) if not gone), default=-1)
        for index, gone in enumerate(dropped):
            if gone and 0 <= last < index:
                yield spans[index - 1][1], spans[index][1], ""
            elif gone:
                yield spans[index][0], spans[index + 1][0] if index + 1 < len(spans) else spans[index][1], ""


Edit = tuple[int, int, str]
"""From which byte to which stands another text."""


# -- what a configuration settles ---------------------------------------------------------


@dataclass
class Specialiser:
    """A module's source for one configuration.

    `known` are the values of names, and parameters that have one of these go; `facts` are the values of attributes, by the
    name of the object that has them. `tables` are dictionaries of the source whose entries stand in place of a look-up,
    `builders` functions that make what their first argument names. Where a docstring names one of `options`, that line goes.
    `config` is what the source calls the configuration.
    """

    source: str
    known: Mapping[str, Any]
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tables: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    builders: Collection[str] = ()
    options: Collection[str] = ()
    config: str = "config"

    def __post_init__(self) -> None:
        self.text = Text(self.source)
        self.env: dict[str, Any] = {name: SimpleNamespace(**facts) for name, facts in self.facts.items()} | dict(
            self.known
        )

    def value(self, node: ast.expr) -> Any:
        """What an expression is, or `UNKNOWN`. The source is our own, and calls nothing."""
        if isinstance(node, ast.BoolOp):
            settling = isinstance(node.op, ast.Or)
            if any(term is not UNKNOWN and bool(term) is settling for term in map(self.value, node.values)):
                return settling
        try:
            return eval(compile(ast.Expression(node), "", "eval"), {"__builtins__": {}}, self.env)
        except (NameError, AttributeError, TypeError):
            return UNKNOWN

    def written(self, node: ast.AST) -> str:
        """An expression's text."""
        return self.text.edited(*self.text.span(node), self.edits(node))

    def edits(self, node: ast.AST) -> Iterator[Edit]:
        """What changes in a part of the source."""
        begin, end = self.text.span(node) if hasattr(node, "lineno") else (0, 0)
        if isinstance(node, ast.expr) and (text := self.replaced(node)) is not None:
            yield begin, end, text
            return
        children, dropped = list(ast.iter_child_nodes(node)), list[ast.AST]()
        if isinstance(node, ast.Call):
            args = node.args
            if isinstance(node.func, ast.IfExp):  # in parentheses, which what is left of it needs no longer
                yield begin, self.text.span(node.func)[1] + 1, self.written(node.func)
                children.remove(node.func)
            elif isinstance(node.func, ast.Name) and node.func.id in self.builders:
                made, *args = args
                yield begin, self.text.span(args[0])[0], f"{self.written(made)}("
                children = [child for child in children if child not in (node.func, made)]
            dropped = [arg for arg in args if isinstance(arg, ast.Name) and arg.id in self.known]
            yield from self.text.without([self.text.span(arg) for arg in args], [arg in dropped for arg in args])
        elif isinstance(node, ast.arguments):
            dropped = [arg for arg in node.args if arg.arg in self.known]
            first = len(node.args) - len(node.defaults)
            ends = [*node.args[:first], *node.defaults]  # a parameter ends with its default
            spans = [(self.text.span(arg)[0], self.text.span(end)[1]) for arg, end in zip(node.args, ends, strict=True)]
            yield from self.text.without(spans, [arg in dropped for arg in node.args])
            dropped += [end for arg, end in zip(node.args, ends, strict=True) if arg in dropped]
        for child in children:
            if child not in dropped:
                yield from self.edits(child)

    def replaced(self, node: ast.expr) -> str | None:
        """Another text for an expression, where the configuration settles it."""
        match node:
            case ast.Compare() | ast.BoolOp() if isinstance(value := self.value(node), bool):
                return str(value)
            case ast.BoolOp():
                return self._remaining(node)
            case ast.IfExp() if (settled := self.value(node.test)) is not UNKNOWN:
                return self.written(node.body if settled else node.orelse)
            case ast.Attribute(value=inner) if ast.unparse(inner) in (self.config, f"self.{self.config}"):
                is_method = callable(getattr(self.known[self.config], node.attr))
                return f"{node.attr}_of" if is_method else node.attr.upper()
            case ast.Subscript(value=ast.Name(id=table)) if table in self.tables:
                return self.tables[table][self.value(node.slice)]
            case ast.Call(func=ast.Name(id="partial"), args=[made, ast.Name(id=name)]) if name in self.known:
                return self.written(made)
        return None

    def _remaining(self, node: ast.BoolOp) -> str | None:
        """The terms of a condition that are not settled; none where all of them are open."""
        remaining = [term for term in node.values if self.value(term) is UNKNOWN]
        if len(remaining) == len(node.values):
            return None
        return (" or " if isinstance(node.op, ast.Or) else " and ").join(map(self.written, remaining))

    # -- statements

    def block(self, body: Body, after: int) -> list[str]:
        """The lines of statements, with the comments above each, from the one after line `after` on."""
        lines: list[str] = []
        for statement in body:
            above = self.text.lines[after : first_line(statement) - 1]
            after = statement.end_lineno or after
            if (made := self.statement(statement)) is not None:
                lines += above + made
            if self.ends(statement):
                break
        return lines

    def ends(self, node: ast.stmt) -> bool:
        """Whether nothing after a statement is reached."""
        if isinstance(node, ast.If) and (settled := self.value(node.test)) is not UNKNOWN:
            return any(map(self.ends, node.body if settled else node.orelse))
        return isinstance(node, ast.Return | ast.Raise)

    def statement(self, node: ast.stmt) -> list[str] | None:
        """The lines of a statement; None where nothing of it is left."""
        match node:
            case ast.If():
                return self._conditional(node)
            case ast.FunctionDef():
                outer, self.env = self.env, self.env | self._locals(node)
                try:
                    return self._compound(node, node.body)
                finally:
                    self.env = outer
            case ast.ClassDef() | ast.For() | ast.With() | ast.While():
                return self._compound(node, node.body)
            case ast.Expr(value=ast.Constant(value=str())):
                return self._docstring(node)
            case ast.Assign(value=ast.Name(id=name)) if name in self.known:
                return None
        return self._lines(node, node.lineno, node.end_lineno or node.lineno)

    def _lines(self, node: ast.AST, first: int, last: int) -> list[str]:
        edits = list(self.edits(node))
        return self.text.edited(self.text.starts[first - 1], self.text.starts[last], edits).splitlines()

    def _compound(self, node: Any, body: Body) -> list[str]:
        first, last = first_line(node), node.lineno
        while not re.search(r":\s*(#.*)?$", self.text.lines[last - 1]):
            last += 1
        head = [edit for part in _head(node) for edit in self.edits(part)]
        lines = self.text.edited(self.text.starts[first - 1], self.text.starts[last], head).splitlines()
        inner = self.block(body, last)
        return lines + (inner or [" " * body[0].col_offset + "pass"])

    def _conditional(self, node: ast.If) -> list[str] | None:
        settled = self.value(node.test)
        if settled is UNKNOWN:
            lines = self._compound(node, node.body)
            if node.orelse:
                start = " " * node.col_offset
                inner = self.block(node.orelse, node.orelse[0].lineno - 1)
                is_elif = bool(inner) and inner[0].startswith(f"{start}elif ")
                lines += inner if is_elif or not inner else [f"{start}else:", *inner]
            return lines
        chosen = node.body if settled else node.orelse
        if not chosen:
            return None
        lines = self.block(chosen, first_line(chosen[0]) - 1)
        deeper = chosen[0].col_offset - node.col_offset
        return [line[deeper:] for line in lines] or None

    def _docstring(self, node: ast.Expr) -> list[str] | None:
        """Its lines but those about options and parameters that are settled."""
        lines = self.text.lines[node.lineno - 1 : node.end_lineno]
        gone = {*self.options, *self.known}
        kept = [line for line in lines if gone.isdisjoint(re.findall(r"`(\w+)`", line))]
        text = "\n".join(kept)
        text = re.sub(r'\n\s*\n(\s*""")$', r"\n\1", text)
        if text.count("\n") == 1 and text.endswith('"""'):  # one line is left
            text = re.sub(r'\s*\n\s*"""$', '"""', text)
        return text.splitlines()

    def _locals(self, function: ast.FunctionDef) -> dict[str, Any]:
        """The names that a function gives a value once, which is settled."""
        counts = Counter(
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        )
        outer, found = self.env, {}
        for statement in ast.walk(function):
            for target, value in elements(statement) if isinstance(statement, ast.stmt) else ():
                if isinstance(target, ast.Name) and counts[target.id] == 1:
                    settled = self.value(value)
                    if settled is not UNKNOWN:
                        found[target.id] = settled
                        self.env = self.env | {target.id: settled}
        self.env = outer
        return found


def _head(node: Any) -> list[ast.AST]:
    """The parts of a compound statement that stand before its body."""
    if isinstance(node, ast.FunctionDef):
        return [*node.decorator_list, node.args, *([node.returns] if node.returns else [])]
    if isinstance(node, ast.ClassDef):
        return [*node.decorator_list, *node.bases]
    if isinstance(node, ast.For):
        return [node.target, node.iter]
    return [item.context_expr for item in node.items] if isinstance(node, ast.With) else [node.test]


def settled_attributes(source: str, value: Callable[[ast.expr], Any]) -> dict[str, Any]:
    """The attributes of `self` that are assigned in one place, where the configuration settles them."""
    found: dict[str, list[Any]] = {}
    for node in ast.walk(parsed(source)):
        for target, given in elements(node) if isinstance(node, ast.stmt) else ():
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                found.setdefault(target.attr, []).append(value(given))
    return {name: values[0] for name, values in found.items() if len(values) == 1 and isinstance(values[0], bool)}


# -- what can be reached ------------------------------------------------------------------

ALWAYS = {"forward", "extra_repr"}
"""Methods that torch calls."""


def _loads(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """The names and the attributes that parts of the source read."""
    every = [inner for node in nodes for inner in ast.walk(node)]
    names = {node.id for node in every if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    attributes = {node.attr for node in every if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    return names, attributes


def definitions(source: str) -> dict[str, str]:
    """The functions and classes of a module, each with the comment right above it, by their names."""
    lines, found = source.splitlines(), {}
    for node in parsed(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = first_line(node) - 1
            while first and lines[first - 1].startswith("#") and not lines[first - 1].startswith("# --"):
                first -= 1
            found[node.name] = "\n".join(lines[first : node.end_lineno])
    return found


def _optional(method: ast.stmt) -> bool:
    return isinstance(method, ast.FunctionDef) and not method.name.startswith("__") and method.name not in ALWAYS


def reachable(found: Mapping[str, str], roots: Iterable[str]) -> dict[str, str]:
    """The definitions that the roots need, in the order given, without what nothing needs in them."""
    trees = {name: ast.parse(text).body[0] for name, text in found.items()}
    names, attributes = set(roots), set[str]()
    while True:
        parts: list[ast.AST] = []
        for name in names & trees.keys():
            tree = trees[name]
            if isinstance(tree, ast.ClassDef):
                parts += [*tree.bases, *(one for one in tree.body if not _optional(one) or _name(one) in attributes)]
            else:
                parts.append(tree)
        more_names, more_attributes = _loads(parts)
        if more_names <= names and more_attributes <= attributes:
            break
        names, attributes = names | more_names, attributes | more_attributes
    kept = {name: text for name, text in found.items() if name in names}
    return {name: _trimmed(text, attributes) for name, text in kept.items()}


def _name(node: Any) -> str:
    return node.name


def _trimmed(text: str, attributes: Collection[str]) -> str:
    """A definition without methods, local names and truth values that nothing reads."""
    while True:
        tree, held = ast.parse(text), Text(text)
        dropped, edits = list[ast.stmt](), list[Edit]()
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                dropped += [part for part in node.body if _unneeded(part, attributes)]
            elif isinstance(node, ast.FunctionDef):
                loads = _loads([node])[0]
                for statement in (one for one in ast.walk(node) if isinstance(one, ast.Assign)):
                    unread = [_unread(*pair, loads, attributes) for pair in elements(statement)]
                    if unread and all(unread):
                        dropped.append(statement)
                    elif any(unread):
                        for side in (statement.targets[0], statement.value):
                            spans = [held.span(part) for part in side.elts]  # type: ignore[attr-defined]
                            edits += held.without(spans, unread)
        if not dropped and not edits:
            return re.sub(r"\n{3,}", "\n\n", text)
        text = held.edited(0, len(held.data), edits) if edits else _without(text, dropped)


def _unneeded(part: ast.stmt, attributes: Collection[str]) -> bool:
    """Whether a class goes without a method, a note to TorchScript, or the type of an attribute that is gone."""
    if isinstance(part, ast.Assign):
        return "__jit_unused_properties__" in stored(part.targets[0])
    if isinstance(part, ast.AnnAssign) and "Final" in ast.unparse(part.annotation):
        return ast.unparse(part.target) not in attributes
    return _optional(part) and _name(part) not in attributes


def _unread(target: ast.expr, value: ast.expr, loads: Collection[str], attributes: Collection[str]) -> bool:
    if isinstance(target, ast.Name):
        return target.id not in loads
    flag = isinstance(value, ast.Constant) and isinstance(value.value, bool)
    return isinstance(target, ast.Attribute) and flag and target.attr not in attributes


def _without(text: str, dropped: Iterable[ast.stmt]) -> str:
    """The text without statements and the comments right above them."""
    lines = text.splitlines()
    for node in sorted(dropped, key=first_line, reverse=True):
        first = first_line(node) - 1
        while lines[first - 1].lstrip().startswith("#"):
            first -= 1
        del lines[first : node.end_lineno]
    return "\n".join(lines)


# -- lines --------------------------------------------------------------------------------


def joined(text: str) -> str:
    """The text with each bracket that fits into a line in one, as a formatter has it."""
    lines, at = text.splitlines(), 0
    while at < len(lines):
        if re.search(r"[(\[{]$", lines[at]) and (end := _closing(lines, at)) is not None:
            inside = " ".join(line.strip() for line in lines[at + 1 : end]).removesuffix(",")
            whole = f"{lines[at]}{inside}{lines[end].lstrip()}"
            if len(whole) <= WIDTH and "#" not in inside:
                lines[at : end + 1] = [whole]
                at -= 1
        at += 1
    return "\n".join(lines)


def _closing(lines: Sequence[str], at: int) -> int | None:
    """The line that ends what line `at` opens: the next one as deep as it."""
    depth = len(lines[at]) - len(lines[at].lstrip())
    return next((end for end in range(at + 1, len(lines)) if re.match(rf" {{{depth}}}\S", lines[end])), None)
