"""How alike what blocks make of the same images is: linear centred kernel alignment (CKA)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..inference.turns import ONE_AT_A_TIME

MACS_A_TURN = 2 * 10**9
"""Of a product of matrices, how much is done in one turn: a tenth of a second on one thread."""
LEAST_VARIATION = 1e-5
"""Features are taken for constant where their centred inner products are this small beside those themselves, as vectors: sums in
fp32 tell no more.
"""


def gram(features: Tensor) -> Tensor:
    """The inner products of N images' features, N×N in fp64 on the CPU, each N×… flattened to a row; in turns, some of the
    columns in each.

    Raises:
        OutOfMemoryError: as `Turn.run`.
    """
    rows, count = features.flatten(1), len(features)
    products = torch.zeros(count, count, dtype=torch.double)
    for part in rows.split(max(1, MACS_A_TURN // count**2), 1):
        products += ONE_AT_A_TIME.run(partial(_inner, part))
    return products


def _inner(rows: Tensor) -> Tensor:
    return (rows.float() @ rows.float().T).cpu().double()


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
    """Linear CKA between all of K Gram matrices N×N of the same images, K×K; in turns, some of the rows in each. It is not
    defined for features that are the same on every image: their rows and columns are not a number.

    HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)) (Kornblith 2019, https://arxiv.org/abs/1905.00414, equation 2), with the unbiased
    estimate of HSIC, as there are fewer images than features: the biased one calls any two of such layers alike. So it may be
    slightly negative.
    """
    rows = grams[0].new_empty(len(grams), grams[0].numel())
    for row, one in zip(rows, grams, strict=True):
        torch.div(values := centred(one).flatten(), norm := torch.linalg.vector_norm(values), out=row)
        if norm <= LEAST_VARIATION * torch.linalg.vector_norm(one):
            row.fill_(torch.nan)
    some = max(1, MACS_A_TURN // rows.numel())
    return torch.cat([ONE_AT_A_TIME.run(partial(torch.matmul, part, rows.T)) for part in rows.split(some)])
