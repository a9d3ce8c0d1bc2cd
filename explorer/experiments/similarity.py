"""How alike what blocks make of the same images is: linear centred kernel alignment (CKA)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """The inner products of N images' features, N×N in fp64, each N×… flattened to a row."""
    rows = features.flatten(1).float()
    return (rows @ rows.T).double()


def centred(products: Tensor) -> Tensor:
    """N×N inner products, U-centred, with zeros on the diagonal: the sum over a row is zero (Székely and Rizzo 2014,
    https://arxiv.org/abs/1310.2926, equation 3.1).

    Of two such matrices the sum of the products is n(n − 3) times the unbiased estimate of HSIC (Song 2012,
    https://www.jmlr.org/papers/v13/song12a.html, equation 5).

    Raises:
        ValueError: for less than four images.
    """
    count = len(products)
    if count < 4:
        raise ValueError(f"CKA takes at least four images, not {count}")
    hollow = products - torch.diag(products.diagonal())
    rows = hollow.sum(0) / (count - 2)
    result = hollow - rows[:, None] - rows[None] + hollow.sum() / ((count - 1) * (count - 2))
    return result.fill_diagonal_(0.0)


def cka(grams: Sequence[Tensor]) -> Tensor:
    """Linear CKA between all of K Gram matrices N×N of the same images, K×K; not a number for features that are the same on
    every image.

    HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)) (Kornblith 2019, https://arxiv.org/abs/1905.00414, equation 2), with the unbiased
    estimate of HSIC, as there are fewer images than features: the biased one calls any two of such layers alike. So it may be
    slightly negative.
    """
    rows = grams[0].new_empty(len(grams), grams[0].numel())
    for row, one in zip(rows, grams, strict=True):
        torch.div(values := centred(one).flatten(), torch.linalg.vector_norm(values), out=row)
    return rows @ rows.T
