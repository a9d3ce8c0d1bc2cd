"""The forms in which a network is deployed: what each takes to save, how long a pass takes, and what it changes of the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor

from resnet import ResNet
from resnet.command import MissingError
from resnet.confined import Places

from ..inference import turns
from ..inference.device import Device
from ..inference.latency import Spread, alternating, rounds_within, second_pass, spread
from ..inference.turns import ONE_AT_A_TIME, Turn, copy_of
from ..sharing.engine import EndedError
from ..sharing.store import Progress, no_progress
from ..sharing.worker import WorkerProcess
from . import compiling, onnx, weights
from .apart import awaited
from .errors import ExportError
from .folding import fold, folded_if_possible
from .int8 import quantised_apart

APART = Places(1)
"""Processes that quantise or compile at one time."""
LEAST_ROUNDS = 5
MAX_INT8_BYTES = 2**28
"""Of an ONNX file that is quantised here, which takes several times as much memory."""


class Images(NamedTuple):
    """What forms are tried on, N×C×H×W as the network takes them: those that ranges of activations are calibrated on, those
    that they are tested on, and these ones' classes where they are known."""

    calibration: Tensor
    tested: Tensor
    labels: tuple[int, ...] | None = None


class Running(NamedTuple):
    """A network in a form: the bytes of the file that it is saved as; its scores, N×K in fp32, for N×C×H×W images; and the
    seconds of a pass over an image. All are called in turns.

    Where it runs in another process, a `pair` are the seconds there, of the network as it is and in this form.
    """

    bytes: int
    scores: Callable[[Tensor], Tensor]
    seconds: Callable[[Tensor], float]
    pair: Callable[[Tensor], tuple[float, float]] | None = None


Form = Callable[[ResNet, Device, Images], AbstractContextManager[Running]]
"""Makes a form of a network that is on a device in fp32, for as long as it is in use."""


class Result(NamedTuple):
    """What a form does: the file's bytes, the spread of the seconds of its passes and of how many times as long they take as
    those of the network as it is, over so many rounds.

    Of the tested images, `same` have the same best class as before, and `right` are named right where that is known. The
    largest `difference` of a score is a share of the largest score, NaN after an overflow.
    """

    form: str
    bytes: int
    seconds: Spread
    ratio: Spread
    rounds: int
    same: int
    difference: float
    right: int | None


class Refusal(NamedTuple):
    """Why a form cannot be had here, in a sentence."""

    form: str
    reason: str


# -- the forms ----------------------------------------------------------------------------


def running(network: ResNet, device: Device) -> Running:
    """A network in a device's form."""

    def scores(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return network(device.tensor(images)).float().cpu()

    size = ONE_AT_A_TIME.run(lambda: len(weights.safetensors(network, {})))
    return Running(size, scores, lambda image: second_pass(network, device.tensor(image), device))


@contextmanager
def as_it_is(network: ResNet, device: Device, images: Images) -> Iterator[Running]:
    yield running(network, device)


@contextmanager
def folded(network: ResNet, device: Device, images: Images) -> Iterator[Running]:
    yield running(ONE_AT_A_TIME.run(lambda: device.network(fold(network))), device)


def changed(half: bool = False, channels_last: bool = False) -> Form:
    """A copy in another precision or layout."""

    @contextmanager
    def make(network: ResNet, device: Device, images: Images) -> Iterator[Running]:
        form, copy = replace(device, half=half, channels_last=channels_last), copy_of(network, share=False)
        yield running(ONE_AT_A_TIME.run(lambda: form.network(copy)), form)

    return make


@contextmanager
def in_onnxruntime(network: ResNet, device: Device, images: Images) -> Iterator[Running]:
    yield ONE_AT_A_TIME.run(lambda: runs_onnx(onnx_file(network, device, images)))


@contextmanager
def int8(network: ResNet, device: Device, images: Images) -> Iterator[Running]:
    file = ONE_AT_A_TIME.run(lambda: onnx_file(network, device, images))
    if len(file) > MAX_INT8_BYTES:
        raise ExportError(
            f"The weights take {len(file) / 2**20:,.0f} MiB: up to {MAX_INT8_BYTES / 2**20:,.0f} MiB are quantised here."
        )
    process = WorkerProcess()
    with APART.place(waiting=turns.waiting):
        small = awaited(process, process.run(quantised_apart, file, images.calibration.numpy()))
    yield ONE_AT_A_TIME.run(lambda: runs_onnx(small))


@contextmanager
def compiled(network: ResNet, device: Device, images: Images, backend: str = "inductor") -> Iterator[Running]:
    state = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    size = ONE_AT_A_TIME.run(lambda: len(weights.safetensors(network, {})))
    process = WorkerProcess()
    with APART.place(waiting=turns.waiting), TemporaryDirectory() as folder, ExitStack() as stack:
        stack.callback(process.end)
        stack.enter_context(process.keep_running())
        given = network.config, state, device, images.tested[:1], torch.get_num_threads(), folder, backend
        awaited(process, process.run(compiling.compile_apart, *given))

        def pair(image: Tensor) -> tuple[float, float]:
            return next(process.run(compiling.time_apart, image))

        def scores(batch: Tensor) -> Tensor:
            return next(process.run(compiling.scores_apart, batch))

        yield Running(size, scores, lambda image: pair(image)[1], pair)


def onnx_file(network: ResNet, device: Device, images: Images) -> bytes:
    """The network as an ONNX file, with its batch norms folded where they can be.

    Raises:
        MissingError: without the extra `onnx`.
        ExportError: for weights that a file cannot hold, and on another device than a CPU.
    """
    if device.torch != "cpu":
        raise ExportError(f"onnxruntime runs on the CPU here, and {device.name} is measured: choose the CPU above.")
    onnx.needed("onnx")
    height, width = images.tested.shape[2:]
    return onnx.model(folded_if_possible(network), (height, width), {})


def runs_onnx(file: bytes) -> Running:
    """An ONNX file in onnxruntime, on as many threads as torch has here."""
    runtime = onnx.needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # others' passes come next
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def scores(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["scores"], {"image": images.numpy()})[0])

    return Running(len(file), scores, lambda image: second_pass(scores, image, Device("cpu", "CPU")))


AS_IT_IS, HALF, INT8 = "as it is", "half precision", "ONNX, int8"
FORMS: Mapping[str, Form] = {
    AS_IT_IS: as_it_is,
    "batch norms folded": folded,
    "channels last": changed(channels_last=True),
    HALF: changed(half=True),
    "ONNX, fp32": in_onnxruntime,
    INT8: int8,
}
"""What can be measured within seconds, by name."""
SLOW_FORMS: Mapping[str, Form] = {"torch.compile": compiled}
"""What takes a minute to make."""


# -- measuring ----------------------------------------------------------------------------


def measure(
    network: ResNet,
    device: Device,
    images: Images,
    forms: Mapping[str, Form],
    batch: int,
    progress: Progress = no_progress,
    budget: float = 1.0,
) -> tuple[Result | Refusal, ...]:
    """What forms do to a network that is on a device in fp32, one after the other, each in alternation with the network as it is.

    A pass is over the first tested image, and there are as many as fit `budget` seconds; `batch` images go through together for
    their scores. Every pass takes a turn of its own.

    Raises:
        OutOfMemoryError: where a form does not fit the device's memory.
    """
    base = running(network, device)
    scores = scores_in_turns(base, device, images.tested, batch, no_progress)
    found: list[Result | Refusal] = []
    for number, (name, form) in enumerate(forms.items()):

        def move(share: float, number: int = number) -> None:
            progress((number + share) / len(forms))

        move(0.0)
        try:
            with form(network, device, images) as made:
                found.append(result(name, made, base, scores, device, images, batch, budget, move))
        except (ExportError, MissingError) as error:
            found.append(Refusal(name, str(error)))
        except EndedError as error:
            found.append(Refusal(name, f"It cannot be measured now: {error}."))
    progress(1.0)
    return tuple(found)


def result(
    name: str,
    made: Running,
    base: Running,
    expected: Tensor,
    device: Device,
    images: Images,
    batch: int,
    budget: float,
    progress: Progress = no_progress,
) -> Result:
    """One form beside the network as it is, whose scores for the tested images are the expected ones; half of the progress are
    the passes that are timed."""
    turn, image = Turn(f"This network, {name},", device.name), images.tested[:1]
    pair = made.pair or (lambda image: (base.seconds(image), made.seconds(image)))
    rounds = max(LEAST_ROUNDS, rounds_within(budget, 2 * sum(turn.run(partial(pair, image)))))
    if made.pair:
        pairs = []
        for number in range(rounds):
            pairs.append(turn.run(partial(pair, image)))
            progress((number + 1) / rounds / 2)
        before, after = zip(*pairs, strict=True)
    else:
        actions = [partial(base.seconds, image), partial(made.seconds, image)]
        before, after = map(tuple, alternating(actions, [turn, turn], rounds, lambda share: progress(share / 2)))
    scores = scores_in_turns(made, device, images.tested, batch, lambda share: progress((1 + share) / 2))
    best = scores.argmax(1)
    right = None if images.labels is None else int((best == torch.tensor(images.labels)).sum())
    return Result(
        name,
        made.bytes,
        spread(after),
        spread([new / old for old, new in zip(before, after, strict=True)]),
        rounds,
        int((best == expected.argmax(1)).sum()),
        onnx.change(expected, scores),
        right,
    )


def scores_in_turns(made: Running, device: Device, images: Tensor, batch: int, progress: Progress) -> Tensor:
    """The scores for N×C×H×W images, `batch` of them in a turn."""
    turn, found = Turn("The images", device.name), []
    for some in images.split(batch):
        found.append(turn.run(partial(made.scores, some)))
        progress(sum(map(len, found)) / len(images))
    return torch.cat(found)


def kinds(found: Sequence[Result | Refusal]) -> tuple[list[Result], list[Refusal]]:
    """Those that were measured, and those that cannot be had."""
    results = [one for one in found if isinstance(one, Result)]
    return results, [one for one in found if isinstance(one, Refusal)]
