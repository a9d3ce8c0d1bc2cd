"""What a person brings, as a session holds it: images and a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from resnet import ResNetConfig
from resnet.checkpoint import Opened

from ..inference import images
from ..sharing.store import FileDigest


@dataclass(frozen=True, eq=False)
class Upload:
    """An image's file, which could be opened, told apart by its bytes' digest; with its middle as a small square."""

    digest: FileDigest
    name: str
    data: bytes = field(repr=False)
    tile: np.ndarray = field(repr=False)

    @property
    def nbytes(self) -> int:
        return len(self.data) + self.tile.nbytes

    def pixels(self) -> np.ndarray:
        return images.pixels(self.data)


@dataclass(frozen=True)
class SourceUploads:
    """What a session holds of one source, each image once, in the order in which they came.

    A widget for files is emptied as soon as they are read, by another one in its place, which is number `widget`. Of the last files
    that it brought, `problems` are sentences on those that are not kept, and `unread` is how many were too many; both
    until its page is left.
    """

    images: tuple[Upload, ...] = ()
    problems: tuple[str, ...] = ()
    unread: int = 0
    widget: int = 0


@dataclass(frozen=True)
class FileAnswers:
    """What was answered of a file that has to be chosen again to be read with it, told by the digest `file` of its bytes.

    Where nothing was `given` yet, it is asked whether the norms of the file are group norms.
    """

    name: str
    file: str
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class UploadedCheckpoint:
    """What was read from an uploaded file.

    `networks` are those that it holds, by the answer to the question `weights`, or the only one by ""; `chosen` is the one
    that is looked at. `digest` tells the file, and what was answered of it, from others; `not_finite` are the tensors of the
    chosen network with NaN or infinity. It was read with `answers`; `notes` are sentences on networks that are not kept.
    """

    name: str
    digest: FileDigest
    networks: Mapping[str, Opened]
    chosen: str = ""
    not_finite: tuple[str, ...] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The digest of the file's bytes alone."""
        return self.digest.partition("/")[0]

    @property
    def opened(self) -> Opened:
        return self.networks[self.chosen]

    @property
    def config(self) -> ResNetConfig:
        return self.opened.config

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return self.opened.state_dict

    @property
    def nbytes(self) -> int:
        return sum(opened.nbytes for opened in self.networks.values())


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Files of images, told from other sets by a digest of all with their names; none of them was opened yet."""

    digest: FileDigest
    files: tuple[tuple[str, bytes], ...] = field(repr=False)

    @property
    def nbytes(self) -> int:
        return sum(len(data) for _, data in self.files)
