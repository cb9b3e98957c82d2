"""Clustering by modularity: the loss of CAUSE's clusterbook and cluster probe.

The tokens of an image are the nodes of a graph with their cosines as edge weights. Codes are good
if tokens that are closer than expected by chance, given their degrees, share a code.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

BLOCK = 4
"""Side, in tokens, of the blocks from each of which `sample_grid` draws one token."""

SHARPNESS = 0.1
"""Divisor of the product of two cosines before tanh."""

_CHUNK_NUMBERS = {"cpu": 2**20, "cuda": 2**26}
"""Number of products that `max_product` computes at a time: as many as fit into the cache of a CPU
(4 MiB), or as keep a GPU busy (256 MiB)."""


def sample_grid(
    images: int, grid: tuple[int, int], generator: torch.Generator, block: int = BLOCK
) -> Tensor:
    """Return one random token of every block of every image.

    Parameters
    ----------
    images : int
    grid : (int, int)
        Rows and columns of tokens. Tokens beyond the last whole block are never drawn.
    generator : torch.Generator
        On the CPU.
    block : int
        Side of a block.

    Returns
    -------
    Tensor int64, shape (images, rows // block * (columns // block))
        Row-major positions of tokens.

    Raises
    ------
    ValueError
        If the grid is smaller than a block.
    """
    rows, columns = grid[0] // block, grid[1] // block
    if not rows * columns:
        raise ValueError(f"a grid of {grid[0]} × {grid[1]} tokens has no block of side {block}")
    within = torch.randint(block, (2, images, rows, columns), generator=generator)
    row = within[0] + block * torch.arange(rows).view(-1, 1)
    column = within[1] + block * torch.arange(columns)
    return (row * grid[1] + column).flatten(1)


def take(tokens: Tensor, positions: Tensor) -> Tensor:
    """Return the tokens [B, n, D] at positions [B, n] of tokens [B, T, D]."""
    return tokens.gather(1, positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def modularity_matrix(tokens: Tensor) -> Tensor:
    """Return the modularity matrix of each image: how much closer tokens are than by chance.

    Parameters
    ----------
    tokens : Tensor float [B, N, D]

    Returns
    -------
    Tensor float [B, N, N]
        ``(A - d d^T / e) / e`` with ``A`` the positive cosines without diagonal, ``d`` its row
        sums and ``e`` its total sum; each row sums to 0. Zero if no cosine is positive.
    """
    unit = functional.normalize(tokens, dim=-1)
    closeness = (unit @ unit.transpose(-2, -1)).clamp(min=0)
    closeness = closeness - torch.diag_embed(closeness.diagonal(dim1=-2, dim2=-1))
    degree = closeness.sum(-1, keepdim=True)
    total = degree.sum(1, keepdim=True).clamp(min=1e-12)
    return (closeness - degree @ degree.transpose(-2, -1) / total) / total


def modularity_loss(tokens: Tensor, codes: Tensor) -> Tensor:
    """Return the negative modularity of the grouping of tokens by codes.

    Parameters
    ----------
    tokens : Tensor float [B, N, D]
        Tokens of B images; no gradient flows to them.
    codes : Tensor float [K, D]

    Returns
    -------
    Tensor float, scalar
        In [-1, 1]: ``-tr(W δ)`` averaged over images, where ``W`` is `modularity_matrix` and
        ``δ_ij = tanh(max_k(C_ik C_jk) / 0.1)`` measures whether i and j share a code, with the
        positive cosines ``C`` of tokens and codes.

    Notes
    -----
    Because tanh is monotone, only the largest product is kept (`max_product`), never the tensor
    [B, K, N, N] of all products.
    """
    tokens = tokens.detach()
    unit = functional.normalize(tokens, dim=-1)
    closeness = (unit @ functional.normalize(codes, dim=-1).T).clamp(min=0)
    shared = torch.tanh(max_product(closeness) / SHARPNESS)
    return -(modularity_matrix(tokens) * shared).sum(dim=(-2, -1)).mean()


def max_product(closeness: Tensor) -> Tensor:
    """Return ``max_k c_ik c_jk`` for each image.

    Only a chunk of the products is in memory at a time, and little more than half of the symmetric
    result is computed. The gradient is that of the full tensor: it flows to the first code that
    attains the maximum.

    Parameters
    ----------
    closeness : Tensor [B, N, K]
        Not negative.

    Returns
    -------
    Tensor [B, N, N]
    """
    result: Tensor = _MaxProduct.apply(closeness)  # type: ignore[no-untyped-call]
    return result


class _MaxProduct(torch.autograd.Function):
    """The largest product over codes, and the code that attains it, for a few rows at a time."""

    @staticmethod
    def forward(context: Any, closeness: Tensor) -> Tensor:
        images, count, codes = closeness.shape
        largest = closeness.new_empty(images, count, count)
        attained = torch.empty(images, count, count, dtype=torch.int64, device=closeness.device)
        at_once = _CHUNK_NUMBERS[closeness.device.type] // max(1, count * codes)
        rows = min(max(1, at_once), -(-count // 4))  # few, since the rest follows by symmetry
        group = max(1, at_once // rows)
        for first in range(0, images, group):
            batch, here = slice(first, first + group), closeness[first : first + group]
            for start in range(0, count, rows):
                part, rest = slice(start, start + rows), slice(start, count)
                values, places = (here[:, part, None, :] * here[:, None, rest, :]).max(dim=-1)
                largest[batch, part, rest], attained[batch, part, rest] = values, places
                largest[batch, rest, part] = values.transpose(1, 2)
                attained[batch, rest, part] = places.transpose(1, 2)
        context.save_for_backward(closeness, attained)
        return largest

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        closeness, attained = context.saved_tensors
        both = gradient + gradient.transpose(-2, -1)
        other = closeness.gather(2, attained).transpose(-2, -1)  # c_jk of the k of (i, j)
        return torch.zeros_like(closeness).scatter_add_(2, attained, both * other)
