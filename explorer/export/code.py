"""PyTorch code of a network that stands alone, read from the source of this package, and the one line with which
torchvision or timm build it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from resnet import OPTIONS, ResNetConfig, blocks, model, title

from ..lessons.source import PARSING, module_source
from ..link import View, natural_size, query_text
from .specialise import WIDTH, Specialiser, definitions, joined, parsed, reachable, settled_attributes

MODULES = (blocks.__name__, model.__name__)
"""What the code of a network is made of, the lower one first."""
ROOTS = ("ResNet", "build")
BUILDERS = ("unfilled",)
"""Functions that make a layer in another way than its class does, for speed alone."""


def code(config: ResNetConfig) -> str:
    """One file of Python that needs torch alone, with the classes and branches that this network reaches.

    Its `build()` is what `resnet.build` makes of the configuration: the same names in the state dict, in the same order,
    and the same outputs with the same weights.
    """
    with PARSING:
        return _code(config)


def _code(config: ResNetConfig) -> str:
    parts = reachable(_specialised(config), ROOTS)
    parts = {name: joined(text) for name, text in parts.items() if name != "build"} | {"build": parts["build"]}
    body = "\n\n\n".join(parts.values())
    constants = "\n".join(_constants(config, body))
    return "\n\n".join([_header(config), _imports(body), constants, f"\n{body}"]) + "\n"


def _specialised(config: ResNetConfig) -> dict[str, str]:
    """Every function and class of the source as this configuration has it."""
    known = {"config": config, "tied": False, "TYPE_CHECKING": False}
    facts: dict[str, dict[str, Any]] = {"self": {"config": config}, "place": {}}
    if all(dilation == 1 for _, dilation in config.stage_strides):
        facts["place"]["dilates"] = False
    sources = [module_source(name) for name in MODULES]
    tables: dict[str, Mapping[Any, str]] = {}
    for source in sources:
        tables |= _tables(source)
        facts["self"] |= settled_attributes(source, Specialiser(source, known, facts).value)
    found = _methods(config)
    for source in sources:
        made = Specialiser(source, known, facts, tables, BUILDERS, OPTIONS)
        found |= definitions("\n".join(made.block(parsed(source).body, 0)))
    return found


def _tables(source: str) -> dict[str, Mapping[Any, str]]:
    """The dictionaries of a module whose values are names: each entry's text by its key."""
    return {
        ast.unparse(node.target): {
            ast.literal_eval(key): ast.unparse(entry)
            for key, entry in zip(node.value.keys, node.value.values, strict=True)
            if key
        }
        for node in parsed(source).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)
    }


def _methods(config: ResNetConfig) -> dict[str, str]:
    """The methods of a configuration that need more than it, as functions: `config.width(…)` is `width_of(…)`."""
    source = inspect.cleandoc("\n" + inspect.getsource(ResNetConfig.width)).replace("def width(", "def width_of(")
    made = Specialiser(source, {"self": config}, config="self")
    return definitions("\n".join(made.block(parsed(source).body, 0)))


# -- what stands above it -----------------------------------------------------------------


def _header(config: ResNetConfig) -> str:
    query = query_text(View(config, natural_size(config)))
    return f'''"""{title(config)}, depth {config.depth}: the network alone, in PyTorch.

    network = build()

Read by ResNet Explorer from its own source. It opens again there, in the app and on the command line, by its link:
?{query}
"""'''


def _imports(body: str) -> str:
    """The imports of the source that the code needs, Python's own first."""
    names = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    plain, by_module = set[str](), dict[str, set[str]]()
    for source in map(module_source, MODULES):
        for node in parsed(source).body:
            if isinstance(node, ast.Import):
                plain |= {ast.unparse(ast.Import([one])) for one in node.names if (one.asname or one.name) in names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                needed = {one.name for one in node.names if one.name in names}
                by_module[node.module] = by_module.get(node.module, set()) | needed
    lines = sorted(plain) + [
        f"from {module} import {', '.join(sorted(needed, key=_import_order))}"
        for module, needed in sorted(by_module.items())
        if needed
    ]
    theirs = [line for line in lines if line.split()[1].startswith("torch")]
    own = [line for line in lines if line not in theirs]
    return "\n".join([*own, *([""] if own else []), *theirs])


def _import_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, each by the alphabet."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _constants(config: ResNetConfig, body: str) -> Iterator[str]:
    """What the code reads of the configuration, each with what it is."""
    names = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    words = {name: option.label for name, option in OPTIONS.items()}
    for name, one in vars(ResNetConfig).items():
        if isinstance(one, property):
            words[name] = (inspect.getdoc(one) or "").partition("\n")[0].partition(";")[0].rstrip(".")
    for name, label in words.items():
        if name.upper() in names:
            line = f"{name.upper()} = {getattr(config, name)!r}"
            if label.lower() == name.replace("_", " "):
                yield line
            else:
                yield f"{line}  # {label}" if len(line) + len(label) + 4 <= WIDTH else f"# {label}\n{line}"
