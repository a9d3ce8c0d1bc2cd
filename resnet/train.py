"""Train the bundled networks on Fashion-MNIST, and measure them.

    python -m resnet.train                      train resnet20, write resnet20.safetensors into the current folder
    python -m resnet.train --network plain56    another of the four bundled networks
    python -m resnet.train --evaluate           test accuracy of the shipped checkpoint

`--output resnet/checkpoints/NAME.safetensors` puts a checkpoint where it ships.

Data: Fashion-MNIST (Xiao 2017, https://arxiv.org/abs/1708.07747, MIT licence), 60,000
training and 10,000 test images, grey, 28×28 pixels. torchvision downloads it, or
`--data` names a folder that holds its four idx files, compressed or not.
"""

from __future__ import annotations

import gzip
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .command import MissingError, Parser, status, writable
from .model import build
from .weights import BUNDLED, FASHION_MNIST, Checkpoint, bundled_path, read_checkpoint, save_checkpoint

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class Recipe:
    """How to train: SGD with Nesterov momentum, linear warm-up, cosine to zero."""

    epochs: int = 8
    steps: int = 0
    """The number of steps, whatever that makes in epochs; 0 stands for `epochs` whole ones."""
    batch: int = 128
    learning_rate: float = 0.1
    warmup: float = 0.15
    """Share of all steps in which the learning rate rises from zero."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """On convolution and linear weights; norms and biases are left alone."""
    crop: int = 2
    """Pixels by which a training image may shift; it may also be mirrored."""
    seed: int = 0
    threads: int = 1
    """The order of additions, and with it the last digits, depends on the thread count."""


class Step(NamedTuple):
    """One step of training: its number from 1, of how many, and the mean cross-entropy of its batch."""

    number: int
    total: int
    loss: float


def fit(model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe) -> Iterator[Step]:
    """Train `model` in place on N×C×H×W normalised images; yields after every step.

    The same seed and thread count give the same steps.

    Raises:
        MissingError: for fewer images than a batch holds.
    """
    if len(images) < recipe.batch:
        raise MissingError(f"{len(images)} training images are fewer than a batch of {recipe.batch}.")
    generator = torch.Generator().manual_seed(recipe.seed)
    descend = Descent(tuple(model.parameters()), recipe)
    total = recipe.steps or recipe.epochs * (len(images) // recipe.batch)
    model.train().to(memory_format=torch.channels_last)
    chosen = islice(batches(len(images), recipe.batch, generator), total)
    for number, rows in enumerate(chosen, start=1):
        batch = augment(images[rows], recipe.crop, generator).contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(batch), labels[rows])
        model.zero_grad()
        loss.backward()
        descend(recipe.learning_rate * rate(number - 1, total, recipe.warmup))
        yield Step(number, total, loss.item())


class Descent:
    """Steps of SGD with Nesterov momentum (Sutskever et al. 2013), as torch.optim.SGD takes them to the last digit.

    With its first step that one imports torch's compiler, which takes seconds and 200 MB of a process that only trains.
    """

    def __init__(self, parameters: tuple[nn.Parameter, ...], recipe: Recipe):
        self.parameters, self.recipe = parameters, recipe
        self.velocities: list[Tensor | None] = [None] * len(parameters)

    @torch.no_grad()
    def __call__(self, rate: float) -> None:
        """One step by the parameters' gradients."""
        momentum, decay = self.recipe.momentum, self.recipe.weight_decay
        for i, parameter in enumerate(self.parameters):
            gradient = parameter.grad
            if gradient is None:
                continue
            if parameter.ndim > 1:  # norms and biases do not decay
                gradient = gradient.add(parameter, alpha=decay)
            velocity = self.velocities[i]
            velocity = gradient.clone() if velocity is None else velocity.mul_(momentum).add_(gradient)
            self.velocities[i] = velocity
            parameter.add_(gradient.add(velocity, alpha=momentum), alpha=-rate)


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers, `size` at a time, shuffled anew in every epoch, without end; what fills no batch is left out."""
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count // size * size].split(size)


def rate(step: int, total: int, warmup: float) -> float:
    """The learning rate at a step as a share of its peak."""
    rising = warmup * total
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def augment(images: Tensor, crop: int, generator: torch.Generator) -> Tensor:
    """Mirror half of N×C×H×W images and shift each by up to `crop` pixels over its darkest value."""
    count, _, height, width = images.shape
    padded = F.pad(images, (crop,) * 4, value=images.min().item())
    top, left = torch.randint(0, 2 * crop + 1, (2, count, 1), generator=generator)
    columns = torch.arange(width)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(0), columns) + left
    rows = torch.arange(height) + top
    sample = torch.arange(count)[:, None, None, None]
    return padded[
        sample, torch.arange(images.shape[1])[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    ]


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images whose highest score is their label, in eval mode."""
    model.eval()
    hits = sum(
        (model(x).argmax(1) == y).sum().item() for x, y in zip(images.split(500), labels.split(500), strict=True)
    )
    return hits / len(images)


def fashion_mnist(folder: Path | None, train: bool) -> tuple[Tensor, Tensor]:
    """Normalised images N×1×28×28 and labels N, by torchvision's loader.

    Raises:
        FileNotFoundError: where `folder` lacks one of the idx files.
        MissingError: where a file is damaged, or nothing is at hand and the download failed.
    """
    from torchvision.datasets import FashionMNIST

    if folder is None:
        try:
            data = FashionMNIST(str(Path.home() / ".cache" / "resnet-explorer"), train=train, download=True)
        except OSError:
            raise
        except Exception as error:  # a RuntimeError for a download that failed, nearly anything for what is damaged
            reason = " ".join(str(error).split())
            raise MissingError(f"Fashion-MNIST could not be had ({reason}): --data names a folder with it.") from error
    else:
        with tempfile.TemporaryDirectory() as root:
            raw = Path(root, "FashionMNIST", "raw")
            raw.mkdir(parents=True)
            try:
                for name in FILES:
                    copy_idx(folder, name, raw / name)
                data = FashionMNIST(root, train=train)
            except OSError:
                raise
            except Exception as error:  # damaged files make their reader raise nearly anything
                raise MissingError(
                    f"{folder} holds damaged idx files of Fashion-MNIST ({error or 'cut short'})."
                ) from error
    (mean,), (std,) = FASHION_MNIST.preprocessing.mean, FASHION_MNIST.preprocessing.std
    return (data.data[:, None] / 255 - mean) / std, data.targets


def copy_idx(folder: Path, name: str, target: Path) -> None:
    """Copy an idx file out of a folder that holds it plain or as .gz."""
    for path, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.exists():
            with opener(path, "rb") as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            return
    raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz, of the four idx files of Fashion-MNIST.")


def execute(arguments: Sequence[str] | None) -> None:
    """Do what the command line asks for.

    Raises:
        MissingError, OSError, WeightsError: where the images or the shipped checkpoint cannot be had, or the new one cannot
            be written.
        SystemExit: for arguments that are not accepted, with a sentence on standard error.
    """
    recipe = Recipe()
    parser = Parser(prog="python -m resnet.train", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", choices=sorted(BUNDLED), default="resnet20")
    parser.add_argument("--evaluate", action="store_true", help="measure the shipped checkpoint instead of training")
    parser.add_argument("--data", type=Path, help="folder with the idx files; without it they are downloaded")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="checkpoint to write; NAME.safetensors in the current folder if not given",
    )
    parser.add_argument("--epochs", type=int, default=recipe.epochs)
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--threads", type=int, default=recipe.threads, help="changes the last digits of the result")
    given = parser.parse_args(arguments)
    if given.epochs < 1 or given.threads < 1 or not 0 <= given.seed < 2**63:
        parser.error("--epochs and --threads take a whole number from 1, --seed one from 0")
    torch.set_num_threads(given.threads)
    if given.evaluate:
        model, checkpoint = read_checkpoint(bundled_path(given.network))
        test = fashion_mnist(given.data, train=False)
        share = accuracy(model, *test)
        print(f"{given.network}: {share:.2%} of {len(test[0]):,} test images; the file says {checkpoint.accuracy:.2%}")
    else:
        output = writable(given.output or Path(f"{given.network}.safetensors"))
        train(given.network, Recipe(epochs=given.epochs, seed=given.seed, threads=given.threads), given.data, output)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of the command line."""
    return status("resnet.train", lambda: execute(arguments))


def train(network: str, recipe: Recipe, folder: Path | None, output: Path) -> None:
    """Train one bundled network on the images in `folder` with a progress bar, measure it and write its checkpoint.

    Raises:
        MissingError, OSError: as `fashion_mnist` and `fit`, or where the file cannot be written.
    """
    from tqdm import tqdm

    torch.manual_seed(recipe.seed)
    config = BUNDLED[network]
    model = build(config)
    test = fashion_mnist(folder, train=False)
    steps = fit(model, *fashion_mnist(folder, train=True), recipe)
    with tqdm(desc=network, unit="step", mininterval=2) as bar:
        for step in steps:
            bar.total = step.total
            bar.update()
            bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)
    share = accuracy(model, *test)
    changed = {
        k: v for k, v in asdict(recipe).items() if k in ("epochs", "seed", "threads") and v != getattr(Recipe(), k)
    }
    command = " ".join(["python -m resnet.train", f"--network {network}", *(f"--{k} {v}" for k, v in changed.items())])
    save_checkpoint(model, Checkpoint(config, FASHION_MNIST, share, command), output)
    print(f"{network}: {share:.2%} of {len(test[0]):,} test images, written to {output}")


if __name__ == "__main__":
    sys.exit(main())
