"""The heads of CAUSE, which map tokens of a frozen backbone to 90-dimensional features."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

FEATURES = 90
"""Dimension of a head's output."""

PROJECTED = 2048
"""Dimension of the projection that is compared in training."""

HIDDEN = 2048
"""Hidden dimension of the decoder's feed-forward network."""

DROPOUT = 0.1


class TwoBranches(nn.Module):
    """The last part of both heads: the sum of a linear branch and one with a hidden layer.

    Parameters
    ----------
    dim : int
        Dimension of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, FEATURES)
        self.hidden = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, FEATURES)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return features [..., 90] of tokens [..., D]; each branch has its own dropout."""
        bent = functional.relu(self.hidden(self.dropout(tokens)))
        return cast("Tensor", self.linear(self.dropout(tokens)) + self.out(bent))


class MlpHead(nn.Module):
    """The head that processes each token separately.

    Parameters
    ----------
    dim : int
        Dimension of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.branches = TwoBranches(dim)

    def forward(self, tokens: Tensor, queries: Tensor) -> Tensor:
        """Return features [B, n, 90] of tokens [B, n, D]; only the other head uses queries."""
        return cast("Tensor", self.branches(tokens))


class TrHead(nn.Module):
    """The head in which the concepts of all tokens attend to each other, then to the tokens.

    A post-norm decoder layer with single-head attention.

    Parameters
    ----------
    dim : int
        Dimension of the tokens.
    tokens : int
        Number of tokens of an image; each has a learned position embedding.
    """

    def __init__(self, dim: int, tokens: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(tokens, dim))
        self.self_attention = nn.MultiheadAttention(dim, 1, dropout=DROPOUT, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(dim, 1, dropout=DROPOUT, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, dim)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)
        self.branches = TwoBranches(dim)

    def forward(self, tokens: Tensor, queries: Tensor) -> Tensor:
        """Return features of the tokens of whole images.

        Parameters
        ----------
        tokens : Tensor [B, T, D]
        queries : Tensor [B, T, D]
            The nearest code of each token; see `nearest_codes`.

        Returns
        -------
        Tensor [B, T, 90]
        """
        concepts = queries
        placed = concepts + self.position
        attended, _ = self.self_attention(placed, placed, concepts, need_weights=False)
        concepts = self.norms[0](concepts + self.dropout(attended))
        placed = concepts + self.position
        attended, _ = self.cross_attention(placed, tokens, tokens, need_weights=False)
        concepts = self.norms[1](concepts + self.dropout(attended))
        concepts = self.norms[2](concepts + self.dropout(self.feed_forward(concepts)))
        return cast("Tensor", self.branches(tokens + concepts))


class Learner(nn.Module):
    """A head with the projection that is only needed in training; both student and teacher.

    Parameters
    ----------
    head : {"mlp", "tr"}
    dim, tokens : int
        See `TrHead`.
    """

    def __init__(self, head: str, dim: int, tokens: int) -> None:
        super().__init__()
        self.head: nn.Module = build_head(head, dim, tokens)
        self.projection = nn.Linear(FEATURES, PROJECTED)


def build_head(head: str, dim: int, tokens: int) -> nn.Module:
    """Return a new head.

    Parameters
    ----------
    head : {"mlp", "tr"}
    dim, tokens : int
        See `TrHead`; `tokens` is not used by ``mlp``.

    Returns
    -------
    nn.Module
    """
    return TrHead(dim, tokens) if head == "tr" else MlpHead(dim)


def nearest_codes(tokens: Tensor, codes: Tensor) -> Tensor:
    """Return the index of the code with the largest cosine to each token.

    Parameters
    ----------
    tokens : Tensor [..., D]
    codes : Tensor [K, D]

    Returns
    -------
    Tensor int64 [...]
    """
    closeness: Tensor = tokens @ functional.normalize(codes, dim=-1).T
    return closeness.argmax(dim=-1)


def move_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Update the teacher in place: ``momentum * teacher + (1 - momentum) * student``."""
    with torch.no_grad():
        torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
