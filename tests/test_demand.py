"""What a pass and a training step take, against autograd, optimisers and an account of every tensor that lives meanwhile."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from explorer import cli
from explorer.analysis import demand
from explorer.analysis.demand import (
    GIB,
    OPTIMIZERS,
    Demand,
    Optimizer,
    Term,
    Workload,
    inference_demand,
    state_bytes,
    training_demand,
    training_moments,
    verdict,
)
from explorer.analysis.forms import Bytes, Form, Precision
from explorer.analysis.trace import Trace, trace
from explorer.cli import main
from helpers import Account, link, narrow, opened, said, select, small, texts
from resnet import ConfigError, ResNet, ResNetConfig, build, preset

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (64, 96)
PRESETS = ("resnet18", "resnet26t", "resnetblur18", "resnetv2_18", "resnet20")
KINDS = (
    preset("resnet18"),
    small(),
    small(antialias="blur", attention="eca", drop_path=0.5),
    small(antialias="blur", attention="se", norm="group", activation="silu"),
    small(shortcut="A", norm="group", order="pre"),
    small(shortcut="D", antialias="avg", activation="gelu", order="pre", attention="se"),
    small(shortcut="none", norm="none", activation="elu", stem="deep"),
    small(block="basic", shortcut="A", antialias="blur", stem_pool="conv", activation="leaky_relu"),
    small(shortcut="C", zero_pool=True, norm="none", attention="se"),
)
"""Among them every kind of layer occurs, with and without what stands before and after it."""
CPU, GPU = (tuple(Form(precision, gpu) for precision in Precision) for gpu in (False, True))


def network_in(form: Form, config: ResNetConfig, device: str = "cpu") -> ResNet:
    """A network for training in a form."""
    made = build(config, device)
    return made.bfloat16() if form.precision == Precision.BF16 else made


def images(form: Form, config: ResNetConfig, batch: int, size: tuple[int, int] = SIZE, device: str = "cpu") -> Tensor:
    """A batch in a form."""
    dtype = torch.bfloat16 if form.precision == Precision.BF16 else torch.float32
    return torch.zeros(batch, config.in_channels, *size, dtype=dtype, device=device)


def autocast(form: Form, device: str = "cpu") -> AbstractContextManager[Any]:
    return torch.autocast(device, torch.bfloat16) if form.autocast else nullcontext()


# -- what autograd keeps ------------------------------------------------------------------


def saved_bytes(network: nn.Module, batch: Tensor, context: AbstractContextManager[Any]) -> int:
    """Bytes of all memory that autograd holds on to in a forward pass in training, without weights, buffers and images."""
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers(), batch)}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), context:
        scores = network(batch)
    assert scores.requires_grad
    return sum(tensor.untyped_storage().nbytes() for where, tensor in saved.items() if where not in own)


def kept(traced: Trace, form: Form, batch: int) -> int:
    """The same as it is computed: at the first moment on the way back nothing is gone."""
    first = next(each for each in training_moments(traced, form, OPTIMIZERS["sgd"]) if each.when.startswith("back"))
    return sum(first.amounts[term].of(batch) for term in (Term.SAVED, Term.COPIES))


@pytest.mark.parametrize("form", CPU, ids=lambda form: str(form.precision))
def test_saved_activations_are_what_autograd_saves(form: Form) -> None:
    for config in KINDS:
        found = saved_bytes(network_in(form, config), images(form, config, 3), autocast(form))
        assert kept(trace(config, SIZE), form, 3) == found, config


@contextmanager
def as_on_a_gpu(form: Form) -> Iterator[None]:
    """Inside, tensors on the device "cuda" have a form and no numbers, and autocast's rules for CUDA hold where asked for."""
    before = torch.is_autocast_enabled("cuda"), torch.get_default_dtype()
    try:
        with FakeTensorMode():
            torch.set_default_dtype(torch.bfloat16 if form.precision == Precision.BF16 else torch.float32)
            torch.set_autocast_enabled("cuda", form.autocast)
            torch.set_autocast_dtype("cuda", torch.bfloat16)
            yield
    finally:
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_default_dtype(before[1])
        torch.clear_autocast_cache()


@pytest.mark.parametrize("form", GPU[1:], ids=lambda form: str(form.precision))
def test_on_a_gpu_autograd_saves_by_its_rules(form: Form) -> None:
    for config in KINDS:
        with as_on_a_gpu(form):
            network, batch = build(config, "cuda"), images(form, config, 3, device="cuda")
            found = saved_bytes(network, batch, nullcontext())
        assert kept(trace(config, SIZE), form, 3) == found, config


# -- what lives at once -------------------------------------------------------------------


def without_resting(found: Demand, batch: int) -> int:
    """The most bytes at once beside weights, buffers and states."""
    still = (Term.WEIGHTS, Term.BUFFERS, Term.STATES)
    return max(
        sum(amount.of(batch) for term, amount in moment.amounts.items() if term not in still)
        for moment in found.moments
    )


def pass_bytes(form: Form, config: ResNetConfig, batch: int, size: tuple[int, int]) -> int:
    """The most bytes alive in a forward pass, weights aside."""
    network, given = network_in(form, config).eval(), images(form, config, batch, size)
    with Account(network, given) as account, torch.no_grad(), autocast(form):
        network(given)
    return account.peak


def step_bytes(form: Form, config: ResNetConfig, batch: int, size: tuple[int, int]) -> int:
    """The most bytes alive on the way forward and back, weights aside. The gradient that begins it is the caller's."""
    network, given = network_in(form, config), images(form, config, batch, size)
    with Account(network, given) as account:
        with autocast(form):
            scores = network(given)
        scores.backward(scores.detach().clone())
    return account.peak - scores.nbytes


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a dispatch mode, as the account is one, torch adds no gradients in place."""
    monkeypatch.setattr(demand.Gradient, "alone", False)


def agrees(form: Form, config: ResNetConfig, batch: int, size: tuple[int, int]) -> None:
    if form.pads_in_fp32 and config.antialias == "blur":  # a CPU lets go of some casts before it convolves
        return
    traced = trace(config, size)
    in_training = without_resting(training_demand(traced, form, OPTIMIZERS["sgd"]), batch)
    assert in_training == step_bytes(form, config, batch, size)
    in_inference = without_resting(inference_demand(traced, form), batch)
    assert in_inference == pass_bytes(form, config, batch, size)


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("form", CPU, ids=lambda form: str(form.precision))
@pytest.mark.parametrize("name", PRESETS)
def test_the_peaks_are_what_is_alive(name: str, form: Form) -> None:
    agrees(form, preset(name), 2, SIZE)


@pytest.mark.usefixtures("watched")
@given(narrow(), st.sampled_from(CPU), st.integers(1, 3), st.tuples(st.integers(33, 80), st.integers(33, 80)))
@example(small(norm="none"), CPU[1], 1, (16, 16))  # weights and biases become fp32 one after the other
@settings(max_examples=25, deadline=None)
def test_the_peaks_of_any_configuration(config: ResNetConfig, form: Form, batch: int, size: tuple[int, int]) -> None:
    agrees(form, config, batch, size)
    found = saved_bytes(network_in(form, config), images(form, config, batch, size), autocast(form))
    assert kept(trace(config, size), form, batch) == found


def test_gradients_that_meet_are_added_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """In torch, and so they take less at the peak of a network whose shortcuts project."""
    seen: list[int] = []

    class Known(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            made = gradient.clone()
            seen.append(made.data_ptr())
            return made

    x = torch.ones(1000, requires_grad=True) * 1
    x.register_hook(lambda gradient: seen.append(gradient.data_ptr()))
    (Known.apply(x) * 1 + Known.apply(x) * 1).sum().backward()
    first, second, both = seen
    assert both == first != second
    traced = trace(preset("resnet18"), SIZE)
    in_place = training_demand(traced, Form(), OPTIMIZERS["sgd"]).bytes(2)
    monkeypatch.setattr(demand.Gradient, "alone", False)
    assert in_place < training_demand(traced, Form(), OPTIMIZERS["sgd"]).bytes(2)


@pytest.mark.parametrize("name", [*PRESETS, "resnet50", "seresnet50", "resnet50_gn"])
def test_one_image_in_fp32_is_that_of_the_trace(name: str) -> None:
    traced = trace(preset(name), SIZE)
    found = inference_demand(traced, Form())
    assert without_resting(found, 1) == traced.inference_memory.bytes
    image = 4 * traced.config.in_channels * SIZE[0] * SIZE[1]
    assert kept(traced, Form(), 1) == traced.training_memory - image


# -- weights, gradients, states -----------------------------------------------------------


def bytes_of(tensors: Iterator[Tensor]) -> int:
    return sum({tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}.values())


MADE: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": lambda weights, **given: torch.optim.SGD(weights, momentum=0.9, **given),
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("form", CPU, ids=lambda form: str(form.precision))
def test_what_stays_is_what_the_tensors_take(form: Form) -> None:
    for config in KINDS:
        network, traced = network_in(form, config), trace(config, SIZE)
        step = list(training_moments(traced, form, OPTIMIZERS["sgd"]))[-1]
        assert step.when == "the optimiser's step"
        assert step.amounts[Term.WEIGHTS].fixed == bytes_of(iter(network.parameters()))
        assert step.amounts[Term.BUFFERS].fixed == bytes_of(iter(network.buffers())), config
        with autocast(form):
            scores = network(images(form, config, 2))
        scores.sum().backward()
        assert step.amounts[Term.GRADIENTS].fixed == bytes_of(
            p.grad for p in network.parameters() if p.grad is not None
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("form", [CPU[0], CPU[2]], ids=lambda form: str(form.precision))
def test_optimisers_keep_what_is_said(name: str, form: Form) -> None:
    """The states after a step, and what another step makes and drops as it runs on a GPU: for all tensors together."""
    config = small(attention="se", norm="batch")
    network, traced, said = network_in(form, config), trace(config, SIZE), OPTIMIZERS[name]
    optimizer = MADE[name](network.parameters(), lr=1e-3, foreach=True)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    states = [state for of_one in optimizer.state.values() for state in of_one.values() if isinstance(state, Tensor)]
    assert state_bytes(traced, form, said).fixed == bytes_of(iter(states))
    on_gpu = state_bytes(traced, form._replace(gpu=True), said).fixed
    assert on_gpu == bytes_of(state for state in states if state.dim())
    account = Account(network, torch.zeros(0))
    grads = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    account.known |= {each.untyped_storage()._cdata for each in (*states, *grads)}
    with account:
        optimizer.step()
    scalars = 4 * 4 * len(states)  # of the count of steps
    assert said.working * traced.params * form.weight == pytest.approx(account.peak, abs=scalars)
    last = list(training_moments(traced, form._replace(gpu=True), said))[-1]
    still = bytes_of(iter((*network.parameters(), *network.buffers(), *grads))) + on_gpu
    assert last.total.fixed == pytest.approx(still + account.peak, abs=scalars)


# -- what fits ----------------------------------------------------------------------------


@given(
    st.sampled_from([trace(preset(name), 64) for name in ("resnet18", "resnet20", "resnet50_gn")]),
    st.sampled_from(GPU),
    st.sampled_from(list(OPTIMIZERS.values())),
    st.integers(2**20, 2**38),
)
@settings(max_examples=60, deadline=None)
def test_the_largest_batch_is_the_last_that_fits(traced: Trace, form: Form, optimizer: Optimizer, memory: int) -> None:
    for found in (inference_demand(traced, form), training_demand(traced, form, optimizer)):
        largest = found.largest_batch(memory)
        assert largest == 0 or found.bytes(largest) <= memory
        assert found.bytes(largest + 1) > memory


@given(st.sampled_from(GPU), st.integers(1, 500))
@settings(max_examples=20, deadline=None)
def test_moments_that_are_left_out_never_take_most(form: Form, batch: int) -> None:
    traced = trace(small(attention="se"), SIZE)
    every = list(training_moments(traced, form, OPTIMIZERS["adam"]))
    found = training_demand(traced, form, OPTIMIZERS["adam"])
    assert found.bytes(batch) == max(moment.total.of(batch) for moment in every)
    assert sum(found.terms(batch).values()) == found.bytes(batch)
    assert len(found.moments) < len(every)


@given(st.lists(st.builds(Bytes, st.integers(0, 9), st.integers(0, 9)), min_size=1), st.integers(1, 9))
def test_the_peak_is_that_of_all_moments(totals: list[Bytes], batch: int) -> None:
    found = demand.demand(demand.Moment("", {}, one) for one in totals)
    assert found.bytes(batch) == max(one.fixed + batch * one.each for one in totals)


def test_a_workload_asks_for_all_of_it() -> None:
    asked = Workload.from_text("batch-64_precision-bf16_optimizer-adamw_within-16")
    assert (asked.batch, asked.form, asked.memory) == (64, Form(Precision.BF16), 16 * GIB)
    traced = trace(preset("resnet18"), 64)
    assert asked.training(traced) == training_demand(traced, asked.form, OPTIMIZERS["adamw"])
    assert asked.inference(traced) == inference_demand(traced, asked.form)
    with pytest.raises(ConfigError, match="precision = fp8 is not accepted: one of fp32, autocast, bf16"):
        Workload.from_text("precision-fp8")


# -- as a person meets it -----------------------------------------------------------------


def test_the_command_prints_the_demand(capsys: pytest.CaptureFixture[str]) -> None:
    typed = "memory resnet18 --size 64x96 --batch 8 --precision autocast --optimizer adamw --within 1GiB"
    assert main([*typed.split(), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    asked = Workload(8, "autocast", "adamw", 1.0)
    traced = trace(preset("resnet18"), SIZE)
    for name, found in (("prediction", asked.inference(traced)), ("training", asked.training(traced))):
        assert facts[name]["peak"] == sum(facts[name]["terms"].values()) == found.bytes(8)
        assert facts["fits"] == [facts["fits"][0] | {"memory": GIB, name: found.largest_batch(GIB)}]
    assert main(typed.split()) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "ResNet-18 at 64×96, depth 18: 8 images, weights in fp32, maps in bf16 or fp16 by torch.autocast, with AdamW"
    )
    assert re.search(rf"^at once +{facts['prediction']['peak']:,} +{facts['training']['peak']:,}$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("typed", "batch", "precision", "optimizer", "memories"),
    [
        ("", 64, "bf16", "adamw", [2 * GIB]),
        ("--batch 8 --optimizer sgd", 8, "bf16", "sgd", [2 * GIB]),
        ("--precision fp32 --within 3GiB", 64, "fp32", "adamw", [3 * GIB]),
    ],
)
def test_the_command_takes_the_links_settings_where_none_are_typed(
    typed: str, batch: int, precision: str, optimizer: str, memories: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    link = "http://localhost:8501/?preset=resnet18&size=64&memory=batch-64_precision-bf16_optimizer-adamw_within-2"
    assert main(["memory", link, *typed.split(), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["batch"], facts["precision"], facts["optimizer"]) == (batch, precision, optimizer)
    assert [one["memory"] for one in facts["fits"]] == memories
    trained = Workload(batch, precision, optimizer).training(trace(preset("resnet18"), 64))
    assert facts["training"]["peak"] == trained.bytes(batch)


def test_a_link_with_settings_that_are_none_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "preset=resnet18&memory=batch-0"]) == 2
    assert capsys.readouterr() == ("", "explorer: batch = 0 is not accepted: a whole number from 1 to 65536.\n")


def test_the_command_offers_what_there_is() -> None:
    assert [one.value for one in cli.memory.Precision] == [one.value for one in Precision]
    assert [one.value for one in cli.memory.Optimizer] == [*OPTIMIZERS]
    assert cli.memory.MAX_BATCH == demand.MAX_BATCH


def test_the_page_says_whether_it_fits() -> None:
    app = opened(preset="resnet18", tab="Memory", memory="batch-64_precision-bf16_optimizer-adamw_within-2")
    asked, traced = Workload(64, "bf16", "adamw", 2.0), trace(preset("resnet18"), 224)
    prediction, training = asked.inference(traced), asked.training(traced)
    (words,) = [text.value for text in app.markdown if "at its peak" in text.value]
    assert words == "**{1}** {0}".format(*verdict(asked, prediction, training))
    assert f"up to {training.largest_batch(2 * GIB):,} images a step" in words
    (terms, batches) = [html.proto.body for html in app.get("html") if 'class="ledger"' in html.proto.body]
    total = re.search(
        r'class="total"><th>At once</th><td title="([\d,]+) bytes">[^<]+</td><td title="([\d,]+) bytes">', terms
    )
    assert total is not None
    assert total.groups() == (f"{prediction.bytes(64):,}", f"{training.bytes(64):,}")
    assert f"<th>80 GiB</th><td>{prediction.largest_batch(80 * GIB):,}</td>" in batches
    assert '<tr class="total"><th>2 GiB</th>' in batches
    (chart,) = app.get("plotly_chart")
    bars = json.loads(chart.proto.spec)["data"]
    assert {bar["name"] for bar in bars} == {*map(str, training.terms(64))}
    select(app, "memory batch", "0")
    assert said(app.warning) == [
        "Batch = 0 is not accepted: a whole number from 1 to 65536. The figures are unchanged."
    ]
    select(app, "memory batch", "1000")
    assert link(app)["memory"] == "batch-1000_precision-bf16_optimizer-adamw_within-2.0"
    assert any(text.value.startswith("**Training does not fit into 2 GiB: up to") for text in app.markdown)


def test_the_largest_batch_is_said_to_fit_and_the_next_is_not() -> None:
    asked, traced = Workload(within=4), trace(preset("resnet18"), 224)
    prediction, training = asked.inference(traced), asked.training(traced)
    largest = training.largest_batch(asked.memory)
    for batch, words in ((largest, "It fits into 4 GiB: "), (largest + 1, "Training does not fit into 4 GiB: ")):
        assert verdict(replace(asked, batch=batch), prediction, training)[1].startswith(words)


def test_what_fits_in_no_way_is_said() -> None:
    asked, traced = Workload(1, within=0.1), trace(preset("resnet18"), 224)
    assert verdict(asked, asked.inference(traced), asked.training(traced))[1] == (
        "Within 0.1 GiB not even one image can be trained on; of predictions up to 8 at once."
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("precision-fp8", "precision = fp8 is not accepted: one of fp32, autocast, bf16."),
        ("batch-0", "batch = 0 is not accepted: a whole number from 1 to 65536."),
        ("within-0.05", "within = 0.05 is not accepted: a number from 0.1 to 999."),
        ("lion", "memory = lion is not accepted: parts joined by _, such as batch-64_precision-bf16, each of batch,"),
    ],
)
def test_a_link_of_no_workload_is_a_sentence(text: str, words: str) -> None:
    app = opened(preset="resnet20", tab="Memory", memory=text)
    (warning,) = said(app.warning)
    assert warning.startswith(words)
    assert warning.endswith(" The defaults are shown instead.")
    assert any("For a batch of 32, everything in fp32" in words for words in texts(app))


# -- where CUDA is ------------------------------------------------------------------------

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@cuda
@pytest.mark.parametrize("form", GPU, ids=lambda form: str(form.precision))
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "seresnet50", "resnet50_gn"])
def test_cuda_takes_as_much(name: str, form: Form) -> None:
    """Within 5 %. The rest is what torch's allocator rounds up (each tensor to 512 bytes) and what cuDNN works in; what the
    driver and the libraries hold for themselves is in no figure of torch's."""
    config, batch, size = preset(name), 32, (224, 224)
    network, given = network_in(form, config, "cuda"), images(form, config, batch, size, "cuda")
    optimizer = torch.optim.AdamW(network.parameters())
    before = torch.cuda.memory_allocated() - bytes_of(iter((*network.parameters(), *network.buffers(), given)))

    def step() -> None:
        optimizer.zero_grad()
        with autocast(form, "cuda"):
            scores = network(given)
        scores.backward(torch.ones_like(scores))
        optimizer.step()

    def predict() -> None:
        optimizer.zero_grad()
        with torch.no_grad(), autocast(form, "cuda"):
            network.eval()(given)

    traced = trace(config, size)
    for work, found in (
        (step, training_demand(traced, form, OPTIMIZERS["adamw"])),
        (predict, inference_demand(traced, form)),
    ):
        work()
        states = 0 if work is step else state_bytes(traced, form, OPTIMIZERS["adamw"]).fixed
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        taken = torch.cuda.max_memory_allocated() - before - states
        assert taken == pytest.approx(found.bytes(batch), rel=0.05), found.peak(batch).when
