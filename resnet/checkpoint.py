"""Checkpoint files from anywhere, understood by their tensors and opened as networks.

Files are read by `reading`, their names understood by `layouts`, their shapes by `shapes`, and what their layers say
besides by `whole`; `conversion` makes other forms of the same network ours, and `questions` has what remains to be asked.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import conversion, layouts, shards, whole
from .config import OPTIONS, ResNetConfig
from .errors import WeightsError
from .layers import COUNTERS, LayoutError, Shape
from .layouts import Trunk, numbered
from .model import ResNet, build
from .options import ConfigError, plain, to_text
from .presets import title
from .questions import AFTER, BOTH, NORM_GROUPS, answered, check_answers, question_of
from .questions import FIXED as FIXED
from .questions import OTHER_QUESTIONS as OTHER_QUESTIONS
from .questions import TELL as TELL
from .questions import Question as Question
from .reading import MAX_TENSOR_BYTES as MAX_TENSOR_BYTES
from .reading import (
    SHORT_OF_MEMORY,
    Contents,
    bytes_of,
    check_tensors,
    contents_of,
    is_short_of_memory,
    place_of,
    reading,
    tensors_at,
)
from .shapes import Mismatch, config_of, differences, unseen_options
from .tensor_files import MAX_FILE_BYTES
from .tensor_files import Tensor as Place

# -- reading ------------------------------------------------------------------------------


class File(NamedTuple):
    """What a checkpoint file holds: its tensors as float32 (whole numbers as they are) on the CPU, by torchvision's
    names, and what a safetensors file says of itself."""

    tensors: dict[str, Tensor]
    metadata: Mapping[str, str]

    @property
    def declared_config(self) -> ResNetConfig | None:
        """The configuration that a file written by this package says it is for."""
        try:
            return ResNetConfig.from_json(self.metadata["config"])
        except (ConfigError, LookupError, RecursionError, TypeError):
            return None


def read_state_dict(data: bytes | bytearray | memoryview, name: str) -> dict[str, Tensor]:
    """The tensors of a file's bytes by torchvision's names, float32 on the CPU, as `read_file` reads them.

    Raises:
        WeightsError: as `read_file`.
    """
    return read_file(data, name).tensors


def read_file(data: bytes | bytearray | memoryview, name: str) -> File:
    """What a `.safetensors`, `.pt` or `.pth` file holds, whoever wrote it, or an `.onnx` or `.pt2` that this package exported.

    The format is told by the content. `name` is what to call the file in a sentence. A process of its own lists the
    tensors (`tensor_files`, `confined`), within 3 s of a processor, 12 s on the clock and 0.6 GiB of memory; their numbers
    then come from the file. Beside the file, and a copy of it for that process, that takes the memory of the tensors.

    Raises:
        WeightsError: for what is not bytes, a file that is too large, damaged, no checkpoint, holds more than tensors, or
            takes more memory or time; nothing else is raised, whatever is given.
    """
    name = plain(name, 80)
    with reading(name):
        held = bytes_of(data, name)
        contents = contents_of(held, name)
        entries = _unwrapped(contents.tree)
        places = {key: place_of(entry, len(held)) for key, entry in entries.items() if isinstance(entry, list)}
        tensors = tensors_at(places, held, name, contents.kind)
        return File(tensors_in(tensors), contents.metadata)


# -- names --------------------------------------------------------------------------------

_WRAPPERS = ("state_dict", "model_state_dict", "state_dict_ema", "model_ema", "model", "network", "net")
_COUNTERS = ("num_batches_tracked", *COUNTERS)


def tensors_in(found: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by our names, wrappers and prefixes taken off; those of no residual network by theirs.

    Raises:
        LayoutError: where two tensors have one name.
    """
    entries = _unwrapped(found).items()
    own = {key: value for key, value in entries if isinstance(key, str) and isinstance(value, Tensor)}
    names = layouts.renamed(_sizes(own))
    tensors = {names[key]: tensor for key, tensor in own.items()}
    fc = tensors.get("fc.weight")
    if fc is not None and fc.shape[2:] == (1, 1):
        tensors["fc.weight"] = fc.flatten(1)
    return tensors


def _unwrapped(found: Any) -> Mapping[Any, Any]:
    """The innermost of the dictionaries that training scripts put around a state dict."""
    for _ in range(len(_WRAPPERS)):  # a dictionary can hold itself
        inner = [found[key] for key in _WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    return found if isinstance(found, Mapping) else {}


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _fitted(config: ResNetConfig, state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[Mismatch]]:
    """The tensors by this configuration's names, as they are where they fit, else as they are understood; and what does not
    fit then."""
    own = {name: tensor for name, tensor in state_dict.items() if isinstance(tensor, Tensor)}
    if not _wrong(config, own):
        return own, []
    index = _projection(config)  # timm does not say whether a pool stands before `downsample.conv`
    found = tensors_in(state_dict)
    named = {name.replace(".downsample.conv.", f".downsample.{index}."): found[name] for name in found}
    return named, _wrong(config, named)


def _wrong(config: ResNetConfig, tensors: Mapping[str, Tensor]) -> list[Mismatch]:
    """What a network does not share with tensors, counters apart."""
    return [one for one in differences(config, _sizes(tensors)) if one.name.rpartition(".")[2] not in _COUNTERS]


# -- understanding ------------------------------------------------------------------------


def infer_config(state_dict: Mapping[str, Any]) -> ResNetConfig:
    """The network that a state dict is of, by the names and shapes of its tensors.

    What tensors do not show keeps its usual value: see `unseen`. Whether every tensor has its
    place in the network is for `mismatches` to say.

    Raises:
        ConfigError: where it is of no residual network that a configuration can express.
    """
    try:
        tensors = tensors_in(state_dict)
    except LayoutError as error:
        raise ConfigError("checkpoint", "a name", f"it {str(error).removesuffix('.')}") from error
    return config_of(_sizes(tensors))


def unseen(config: ResNetConfig, state_dict: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The options of an inferred configuration that its tensors do not show, each with the values that they fit.

    Empty where they do not fit the configuration.
    """
    if mismatches(config, state_dict):
        return {}
    return unseen_options(config, any(".downsample.conv." in name for name in tensors_in(state_dict)))


def mismatches(config: ResNetConfig, state_dict: Mapping[str, Any]) -> list[Mismatch]:
    """What keeps a state dict from being loaded into a network, in the network's order, then what it lacks."""
    return _fitted(config, state_dict)[1]


def not_finite(state_dict: Mapping[str, Tensor]) -> list[str]:
    """The tensors that hold NaN or infinity: so do the extremes of one, which take no memory."""

    def finite(tensor: Tensor) -> bool:
        numbers = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        return not tensor.numel() or all(extreme.isfinite() for extreme in numbers.aminmax())

    return [name for name, tensor in state_dict.items() if not finite(tensor)]


def network(config: ResNetConfig, state_dict: Mapping[str, Any]) -> ResNet:
    """The network with these weights in eval mode; it shares their memory.

    Raises:
        WeightsError: where they do not fit; `mismatches` has the list.
    """
    tensors, wrong = _fitted(config, state_dict)
    if wrong:
        raise WeightsError(f"The checkpoint does not fit this network; first {wrong[0]}.")
    model = ResNet(config)
    model.load_state_dict(tensors, strict=False, assign=True)
    return model.eval()


# -- opening ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class Opened:
    """A residual network that was found in a file.

    `state_dict` fits `build(config).load_state_dict(…, strict=True)`. `left_out` says what else stood beside it, by
    prefix. Where `headless`, the file has no classifier, or another kind of head, and the tensors of ours are zeros.
    `questions` has, by name, what to give `open_checkpoint` as an answer where something else is right; `notes` are
    sentences on what was done. `declared` says that the file itself names its configuration. `names` has what the file calls
    each tensor that it holds.
    """

    config: ResNetConfig
    state_dict: Mapping[str, Tensor]
    left_out: tuple[str, ...] = ()
    headless: bool = False
    questions: Mapping[str, Question] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    declared: bool = False
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.state_dict.values())

    @property
    def words(self) -> tuple[str, ...]:
        """What the file is, in sentences: the network, how it is known, what is missing, left out or assumed."""
        left_out = plain(", ".join(part or "tensors beside it" for part in self.left_out), 200)

        def values(choices: Sequence[Any]) -> str:
            return plain(", ".join(map(to_text, choices)), 200)

        return (
            f"{self._size}.",
            "The file names its configuration." if self.declared else "It is understood by its tensors.",
            *([f"Left out: {left_out}."] if left_out else []),
            *(plain(note, 400) for note in self.notes),
            *(
                f"{name} = {values(asked.choices[:1])} is assumed, of {values(asked.choices)}. {asked.tell}"
                for name, asked in self.questions.items()
            ),
        )

    @property
    def _size(self) -> str:
        theirs = [one for name, one in self.state_dict.items() if not (self.headless and name.startswith("fc."))]
        size = sum(tensor.nbytes for tensor in theirs) / 2**20
        return f"{title(self.config)}: {len(theirs)} tensors, {sum(one.numel() for one in theirs):,} numbers, {size:,.1f} MiB"

    def __repr__(self) -> str:
        """The network and its size in a line, and what is asked."""
        asked = f", asks {', '.join(self.questions)}" if self.questions else ""
        return f"Opened({self._size}{asked})"

    def _repr_html_(self) -> str:
        """In a notebook: its `words`."""
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in self.words)


def open_checkpoint(source: bytes | Path, name: str = "", **answers: Any) -> Opened:
    """The residual network in a checkpoint file, whoever wrote it, ready to run.

    `answers` are to the questions of an `Opened` before: an option of the configuration, `option_a` ("both", "after"),
    `standardised` (whether BiT's convolutions are what it holds), `weights` (which of several networks in the file) or one
    of `FIXED`, which opens nothing where it is answered otherwise than a configuration has it. A path may be that of an
    index beside its shards.

    Raises:
        WeightsError: where the file cannot be read, or holds nothing that a configuration can express, in a sentence that
            names what it is; for an answer that does not fit; and, with an entry in the log, where this package fails.
    """
    name = plain(name or (source.name if isinstance(source, Path) else "The file"), 80)
    with reading(name):
        data = bytes_of(_read(source, name), name)
        contents = contents_of(data, name)
        places = {key: place_of(entry, len(data)) for key, entry in _flat(contents.tree, name).items()}
        if not places:
            check_tensors(places, len(data), name, contents.kind)
    with understanding(name):
        try:
            trunks = layouts.trunks({key: place.shape for key, place in places.items()})
            trunk, which = _chosen(trunks, answers)
            makers = (name for parts in trunk.makers.values() for name in parts.values())
            wanted = {key: places[key] for key in {*trunk.tensors.values(), *makers}}
            with reading(name):
                tensors = tensors_at(wanted, data, name)
            return _opened(trunk, which, tensors, name, contents, answers)
        except LayoutError as error:
            if whole_numbers := next((key for key, place in places.items() if _is_quantised(key, place)), None):
                raise WeightsError(
                    f"{name} has {plain(whole_numbers.rpartition('/')[2])} as {places[whole_numbers].dtype}, as quantised "
                    "networks have: the network that it was made of is accepted, in floating point."
                ) from error
            it_is = f"is {contents.kind}, and " if contents.kind else ""
            raise WeightsError(f"{name} {it_is}{plain(error, 400)}") from error
        except ConfigError as error:
            raise WeightsError(f"{name} holds a network that no configuration expresses: {error}") from error


@contextmanager
def understanding(name: str) -> Iterator[None]:
    """What fails beyond sentences while tensors are understood is a WeightsError, and an entry in the log: it is no fault of
    the file that nobody thought of it."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        if is_short_of_memory(error):
            raise WeightsError(f"{name} {SHORT_OF_MEMORY}") from error
        logging.getLogger(__name__).exception("A checkpoint was not understood")
        raise WeightsError(
            f"{name} was read but not understood, which is a fault of this program: it is in the log."
        ) from error


def _is_quantised(name: str, place: Place) -> bool:
    return name.endswith(".weight") and len(place.shape) > 1 and place.dtype in ("int8", "uint8", "int32")


def _read(source: Any, name: str) -> Any:
    if not isinstance(source, Path):
        return source
    try:
        if source.name.endswith(shards.INDEX):
            return shards.beside(source)
        if source.stat().st_size > MAX_FILE_BYTES:
            raise WeightsError(
                f"{name} has {source.stat().st_size / 2**20:,.0f} MiB: at most {MAX_FILE_BYTES // 2**20} MiB are accepted."
            )
        return source.read_bytes()
    except OSError as error:
        raise WeightsError(f"{name} cannot be read ({error.strerror}): a file is accepted.") from error


MAX_NAMES = 1_200_000
"""Characters of the names of a file's tensors together, each with the dictionaries that hold it: 20,000 of 60."""


def _flat(tree: Mapping[str, Any], name: str) -> dict[str, list[Any]]:
    """Where the tensors of a file lie, by the dictionaries that hold them, each followed by a slash, and their names.

    Raises:
        WeightsError: for names of endless length.
    """
    found: dict[str, list[Any]] = {}
    characters = 0
    for key, entry in _leaves(tree):
        if (characters := characters + len(key)) > MAX_NAMES:
            raise WeightsError(f"{name} has names of more than {MAX_NAMES:,} characters: shorter ones are accepted.")
        found[key] = entry
    return found


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, list[Any]]]:
    for key, entry in tree.items():
        if isinstance(entry, list):
            yield prefix + key, entry
        else:
            yield from _leaves(entry, f"{prefix}{key}/")


def _chosen(trunks: Sequence[Trunk], answers: Mapping[str, Any]) -> tuple[Trunk, tuple[str, ...]]:
    """The network to open, and what all of a file are called, it first.

    Raises:
        LayoutError: for weights that it does not have.
    """
    labels = Counter(map(_label, {trunk.prefix for trunk in trunks}))
    named: dict[str, Trunk] = {}
    for trunk in trunks:
        label = _label(trunk.prefix)
        named.setdefault(label if labels[label] == 1 else trunk.prefix, trunk)
    asked = str(answers.get("weights", next(iter(named))))
    if asked not in named:
        raise LayoutError(f"has no weights {plain(asked)}: it has {', '.join(map(plain, named))}.")
    return named[asked], tuple(sorted(named, key=lambda label: label != asked)) if len(named) > 1 else ()


def _label(prefix: str) -> str:
    return prefix.rstrip("./") or "the file itself"


def _opened(
    trunk: Trunk,
    which: tuple[str, ...],
    tensors: Mapping[str, Tensor],
    name: str,
    contents: Contents,
    answers: Mapping[str, Any],
) -> Opened:
    """What a file is whose network stands at a trunk.

    Raises:
        ConfigError, LayoutError: where no configuration can express it.
    """
    state = {ours: tensors[theirs] for ours, theirs in trunk.tensors.items()}
    for ours, theirs in trunk.tensors.items():
        if not ours.endswith(_COUNTERS) and not state[ours].is_floating_point():
            raise LayoutError(f"has {plain(theirs)} as {state[ours].dtype}: dense floating-point tensors are accepted.")
    check_answers(answers)
    told = whole.said(trunk, contents.modules)
    notes = [
        *(plain(note, 400) for note in trunk.notes),
        *told.notes,
        *_straighten(state, _makers(trunk, tensors), trunk),
    ]
    for norm, more in whole.epsilons(told.layers):
        if f"{norm}.running_var" in state:
            state[f"{norm}.running_var"] = state[f"{norm}.running_var"] + more
    if trunk.either_order and answers.get("order") in OPTIONS["order"].choices:
        state = conversion.in_order(state, answers["order"])
    config = _declared(contents, state)
    declared = config is not None
    if config is None:
        shapes = {numbered(ours, trunk.pool): tuple(tensor.shape) for ours, tensor in state.items()}
        try:
            config = config_of(shapes).with_(**trunk.facts, **told.facts)[0]
        except ConfigError as error:
            theirs = trunk.tensors.get(SHOWN_BY.get(error.field, ""), "").rpartition("/")[2]
            where = f" ({theirs})" if theirs else ""
            raise LayoutError(f"holds a network that no configuration expresses{where}: {error}") from error
        notes += _check_norm(config, name, {**told.facts, **answers})
        if conversion.widen_attention(state, config):
            notes.append("Its channel attention is narrower than a configuration has it: zeros make it as wide.")
    asked = {} if declared else unseen_options(config, trunk.pool == "conv")
    if told.layers:
        config, asked = whole.agreed(config, asked, told.layers)
        asked = {option: values for option, values in asked.items() if option not in told.facts}
    if trunk.either_order and not declared:
        asked["order"] = OPTIONS["order"].choices
    config = answered(config, answers)
    _check_told(config, told)
    questions = {option: question_of(config, option, values) for option, values in asked.items()}
    if wrong := differences(config, _sizes(_completed(config, state))):
        raise LayoutError(_misfit(wrong[0], trunk))
    if not declared:
        config, forms = _translated(config, state, trunk, name, answers)
        questions |= {name: question for name, question, _ in forms if name not in told.facts}
        notes += [*_functions(config, trunk, told), *(note for *_, note in forms if note)]
        questions |= {
            name: Question((value, f"{other}, which no configuration has"), TELL[name])
            for name, (_, value, other) in FIXED.items()
            if _is_open(name, config, trunk, told)
        }
    if "option_a" in answers and "option_a" not in questions:
        raise LayoutError("does not need the answer option_a: leave it out.")
    if which:
        questions["weights"] = Question(which, TELL["weights"])
        notes.append(f"Of the weights {' and '.join(map(plain, sorted(which)))} those of {plain(which[0])} are opened.")
    if trunk.affine or CAFFE.search(f"{name} {' '.join(trunk.tensors.values())}"):
        notes.append(
            "Networks of Caffe and Detectron2 mostly read images as BGR from 0 to 255, which is not how images are prepared "
            "here."
        )
    if trunk.headless:
        notes.append("It has no classifier that reads the last stage: the scores are zeros.")
    names = {numbered(ours, _projection(config)): theirs for ours, theirs in trunk.tensors.items()}
    return Opened(
        config, _completed(config, state), trunk.left_out, trunk.headless, questions, tuple(notes), declared, names
    )


CAFFE = re.compile(r"caffe|detectron|msra|(?<![^./ ])res2(\.|a_)", re.I)
"""Names of files, of Detectron2's stages and of Caffe's, whose networks have Caffe's way of preparing images."""


CAFFE_POOL = re.compile(r"res\d[a-z]\d*_branch|conv\d_\d+_1x1")
"""Names of a block's first convolution whose networks pool as Caffe's do: https://github.com/KaimingHe/deep-residual-networks,
and what MatConvNet made of them."""


def _functions(config: ResNetConfig, trunk: Trunk, told: whole.Said) -> Iterator[str]:
    """Sentences on what has the same tensors in other public code and computes another function, which no configuration
    has."""
    if config.shortcut == "A":
        yield "Its shortcuts are taken to skip every second place, as the paper's; code that averages there is another network."
    if (config.order, config.stem) == ("pre", "3x3") and any(
        name.endswith(".downsample.conv.weight") for name in trunk.tensors
    ):
        yield (
            "Its projections are taken to read what was normalised and activated, as the paper's; code whose projections read "
            "the block's input (FixMatch, MixMatch) is another network."
        )
    biased = [name for name in trunk.tensors if re.search(r"conv[\d.]*\.bias$", name)]
    if biased and config.stem == "7x7" and all(name.endswith(".downsample.conv.bias") for name in biased):
        # https://github.com/Project-MONAI/MONAI/blob/dev/monai/networks/nets/resnet.py
        yield (
            "Its projections alone have biases, as MONAI's have, whose 7×7 stem has stride 1 unless it is told otherwise, which "
            "no configuration has."
        )
    if CAFFE_POOL.search(trunk.tensors["layer1.0.conv1.weight"]):
        yield "It has Caffe's names, whose stem pools without padding and rounds up, which no configuration does."
    if config.activation == "leaky_relu" and "activation" not in told.facts:
        yield "Its leaky ReLU is taken to have the slope 0.01."


def _is_open(question: str, config: ResNetConfig, trunk: Trunk, told: whole.Said) -> bool:
    """Whether one of `FIXED` concerns a file that does not answer it itself."""
    match question:
        case "leaky_slope":
            return config.activation == "leaky_relu" and "activation" not in told.facts
        case "last_stride":
            return trunk.headless and len(config.layers) > 1 and not told.layers
    return config.stem == "3x3" and not told.layers


def _check_told(config: ResNetConfig, told: whole.Said) -> None:
    """That nothing was answered otherwise than the layers of a network say.

    Raises:
        LayoutError: where something was.
    """
    for option, value in told.facts.items():
        if getattr(config, option) != value:
            raise LayoutError(
                f"says itself that its {option} is {value}: {plain(getattr(config, option))} is not accepted."
            )
    if told.layers and (wrong := whole.difference(config, told.layers)):
        raise LayoutError(f"is set otherwise itself: it has {wrong}.")


def _makers(trunk: Trunk, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """What weights are computed from at each use, by our names of the weights.

    Raises:
        LayoutError: for what cannot make them.
    """
    for ours, parts in trunk.makers.items():
        weight = tuple(tensors[trunk.tensors[ours]].shape)
        for part, theirs in parts.items():
            if not conversion.is_maker(part, tuple(tensors[theirs].shape), weight):
                does = "prunes" if part == "mask" else "scales"
                raise LayoutError(f"has {plain(theirs)} of another shape than the weight that it {does}.")
            if part != "mask" and not tensors[theirs].is_floating_point():
                raise LayoutError(
                    f"has {plain(theirs)} as {tensors[theirs].dtype}: dense floating-point tensors are accepted."
                )
    return {ours: {part: tensors[name] for part, name in parts.items()} for ours, parts in trunk.makers.items()}


def with_option_a(opened: Opened, form: str) -> Opened:
    """The same network with this answer to `option_a`, which needs no second look into the file; tensors that the answer
    does not change are shared.
    """
    question = opened.questions.get("option_a")
    if question is None or form == question.choices[0]:
        return opened
    state = dict(opened.state_dict)
    conversion.pad_after(state, opened.config, back=form == AFTER)
    questions = {**opened.questions, "option_a": Question((form, question.choices[0]), question.tell)}
    notes = (*(note for note in opened.notes if note != PADDED), *([PADDED] if form == BOTH else []))
    return replace(opened, state_dict=state, questions=questions, notes=notes)


def fitted(opened: Opened, config: ResNetConfig) -> Mapping[str, Tensor]:
    """The tensors by the names of another configuration: a projection after a pool, where the file does not say whether
    there is one, has another number; the norm outside the blocks stands where the order has it, where the file does not say
    which it is; and what is no classifier has as many zeros as there are classes.

    Whether they fit it is for `mismatches` to say.
    """
    state = opened.state_dict
    if "order" in opened.questions and config.order != opened.config.order:
        state = conversion.in_order(state, config.order)
    step = (config.shortcut == "D") - (opened.config.shortcut == "D")
    if step and "shortcut" in opened.questions:
        state = {PROJECTION.sub(lambda match: str(int(match[0]) + step), name): state[name] for name in state}
    if opened.headless and config.num_classes != opened.config.num_classes:
        weight, count = state["fc.weight"], config.num_classes
        state = {**state, "fc.weight": weight.new_zeros(count, weight.shape[1]), "fc.bias": weight.new_zeros(count)}
    return state


PROJECTION = re.compile(r"(?<=\.downsample\.)\d(?=\.)")
PADDED = "Its shortcuts pad the channels on both sides: they are reordered for ours, which pad after them."


def _translated(
    config: ResNetConfig, state: dict[str, Tensor], trunk: Trunk, name: str, answers: Mapping[str, Any]
) -> tuple[ResNetConfig, list[tuple[str, Question, str]]]:
    """The configuration once tensors of another form are in ours: each form that was asked for, and what was done.

    Raises:
        LayoutError: for a form that ours has no place for.
    """
    forms = []
    if config.shortcut == "A":
        ordered = "ECA" if config.attention == "eca" else "group norm" if config.norm == "group" else ""
        likeliest = BOTH if LINEAR.search(trunk.tensors.get("fc.weight", "")) and not ordered else AFTER
        form = answers.get("option_a", likeliest)
        if form == BOTH and ordered:
            raise LayoutError(
                f"pads channels on both sides and has {ordered}, which reads them in their order: ours pad after them."
            )
        if form == BOTH:
            conversion.pad_after(state, config)
        if not ordered:
            question = Question((form, AFTER if form == BOTH else BOTH), TELL["option_a"])
            forms.append(("option_a", question, PADDED if form == BOTH else ""))
    if config.norm == "group":
        groups = (config.norm_groups, *(count for count in NORM_GROUPS if count != config.norm_groups))
        forms.append(("norm_groups", Question(groups, TELL["norm_groups"]), ""))
    if config.norm == "group" or "standardised" in answers or STANDARDISED.search(name):
        pre = config.order == "pre"
        likely = (config.norm == "group" and pre and config.stem == "7x7") or bool(STANDARDISED.search(name))
        bit, note = answers.get("standardised", likely) in (True, "1"), ""
        if bit:
            conversion.standardise(state)
            note = "Its convolutions standardise their weights."
        if bit and pre and not OPTIONS["zero_pool"].unless(config):
            config, note = config.with_(zero_pool=True)[0], f"{note[:-1]}, and its pool pads with zeros, as BiT's do."
        forms.append(("standardised", Question((bit, not bit), TELL["standardised"]), note))
    return config, forms


SHOWN_BY = {
    "stem": "conv1.weight",
    "groups": "layer1.0.conv2.weight",
    "base_width": "layer1.0.conv2.weight",
    "se_reduction": "layer1.0.se.fc1.weight",
}
"""A tensor that shows an option, for a sentence about one that does not fit."""

LINEAR = re.compile(r"(^|[./])linear\.")


MADE = {
    "mask": "Its pruned weights are zeros.",
    "g": "Its weights are computed from their directions and lengths (weight norm).",
    "u": "Its weights are divided by their spectral norms.",
}


def _straighten(state: dict[str, Tensor], makers: Mapping[str, Mapping[str, Tensor]], trunk: Trunk) -> Iterator[str]:
    """Give tensors the form of ours; a sentence for each thing that this changes."""
    yield from (MADE[kind] for kind in sorted(conversion.make_weights(state, makers)))
    if conversion.straighten_layers(state):
        yield "Its channel attention has no biases: they are zeros."
    if trunk.affine:
        conversion.add_statistics(state)
    if conversion.add_projection_norms(state):
        yield "Its projections have no norm: they get one that changes nothing."
    conversion.add_scales(state)
    if conversion.fold_biases(state):
        yield "The biases of its convolutions are taken into the running means of the norms after them."


def _declared(contents: Contents, state: Mapping[str, Tensor]) -> ResNetConfig | None:
    """The configuration that a file of this package says it is for, where its tensors fit that."""
    config = File({}, contents.metadata).declared_config
    return None if config is None or differences(config, _sizes(_completed(config, state))) else config


GROUPED = re.compile(r"group|fed|(?<![a-z])gn(?![a-z])", re.I)
"""Names of files whose networks have group norm: federated learning has little else (Hsieh 2020,
https://arxiv.org/abs/1910.00189)."""


STANDARDISED = re.compile(r"(?<![a-z])ws(?![a-z])|standardi[sz]", re.I)
"""Names of files whose networks standardise their weights, https://github.com/joe-siyuan-qiao/pytorch-classification."""


class UnsureNormError(LayoutError):
    """A network whose norms may be group norms: it is opened where that is answered."""


def _check_norm(config: ResNetConfig, name: str, answers: Mapping[str, Any]) -> Iterator[str]:
    """That it is sure that a network without running statistics has group norm; a sentence where the file's name says so.

    Raises:
        UnsureNormError: where instance norm, or batch norm of each batch, would have the same tensors.
    """
    if config.norm != "group" or "norm" in answers or (config.order == "pre" and config.stem != "3x3"):
        return  # BiT's and timm's pre-activation networks; smaller ones have other norms as well
    if not GROUPED.search(name):
        raise UnsureNormError(
            "has norms without running statistics: instance norm and batch norm of each batch are not expressed by a "
            "configuration, and group norm, which has the same tensors, is opened where norm=group is answered."
        )
    yield "Its norms are taken for group norms, as its name says."


def _projection(config: ResNetConfig) -> str:
    """The number of a shortcut's convolution among the layers of its shortcut: after a pool, or first."""
    return "1" if config.shortcut == "D" else "0"


def _completed(config: ResNetConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names and in the order of a network, with zeros for counters and a missing classifier or its
    bias; what the network does not know comes last."""
    own = {numbered(name, _projection(config)): tensor for name, tensor in state.items()}
    found = {}
    for name, wanted in build(config, "meta").state_dict().items():
        if name.endswith(".num_batches_tracked") and name in own and own[name].ndim:  # some write it with an axis
            own[name] = own[name].reshape(-1)[:1].sum()
        if name in own:
            found[name] = own.pop(name)
        elif name.endswith((".num_batches_tracked", "fc.weight", "fc.bias")):
            found[name] = torch.zeros(wanted.shape, dtype=wanted.dtype)
    return found | own


def _misfit(wrong: Mismatch, trunk: Trunk) -> str:
    """A sentence about a tensor that no configuration has, with the name that the file has for it."""
    theirs = {numbered(ours, pool): source for pool in "01" for ours, source in trunk.tensors.items()}.get(wrong.name)
    known = f" ({plain(theirs.rpartition('/')[2], 80)})" if theirs and not theirs.endswith(wrong.name) else ""
    return f"holds a network that no configuration expresses; first {wrong}{known}."
