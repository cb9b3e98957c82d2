"""What the student learns: to assign its views to the prototypes that the teacher assigns them to.

As in DINO (Caron et al. 2021), student and teacher are one architecture, the teacher an average of
the student's past; as in SwAV (Caron et al. 2020), the teacher's assignments are balanced by
Sinkhorn-Knopp, so that no prototype takes all; as in iBOT (Zhou et al. 2022), patches that are
hidden from the student have to be assigned as the teacher, who sees them, does.

Two things differ, and both keep a short training from ending where nothing is said at all (every
view on every prototype alike, which costs as little as not learning): prototypes are fixed and
span the space before them, and the teacher's logits are standardised before they are balanced.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

HIDDEN = 384


class PrototypeHead(nn.Module):
    """Cosine similarities of tokens to fixed prototypes, after a perceptron.

    Parameters
    ----------
    features : int
        Of a token.
    bottleneck : int
        Width of the space of the prototypes.
    bases : int
        Random orthonormal bases of that space whose vectors are the prototypes. Whatever a token
        is, its squared similarities add up to `bases`: it cannot be unlike all of them.
    """

    def __init__(self, features: int, bottleneck: int, bases: int) -> None:
        super().__init__()
        self.perceptron = nn.Sequential(
            nn.Linear(features, HIDDEN, bias=False),
            nn.BatchNorm1d(HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, bottleneck, bias=False),
            nn.BatchNorm1d(bottleneck, affine=False),
        )
        vectors = [nn.init.orthogonal_(torch.empty(bottleneck, bottleneck)) for _ in range(bases)]
        self.prototypes: Tensor
        self.register_buffer("prototypes", torch.cat(vectors))

    def forward(self, tokens: Tensor) -> Tensor:
        """Similarities [n, prototypes] in [-1, 1] of tokens [n, features]."""
        return normalize(self.perceptron(tokens.float()), dim=1) @ self.prototypes.T


@torch.no_grad()
def balanced_assignments(similarities: Tensor, sharpness: float, iterations: int = 3) -> Tensor:
    """Return the teacher's soft assignments.

    Parameters
    ----------
    similarities : Tensor [n, prototypes]
    sharpness : float
        Standard deviation of the logits of each prototype over the batch.
    iterations : int
        Of Sinkhorn-Knopp.

    Returns
    -------
    Tensor [n, prototypes]
        Rows sum to one; columns have about the same sum.
    """
    logits = sharpness * (similarities - similarities.mean(dim=0))
    logits = logits / (similarities.std(dim=0) + 1e-6)
    shares = (logits - logits.amax(dim=1, keepdim=True)).exp()
    for _ in range(iterations):
        shares = shares / (shares.sum(dim=0, keepdim=True) + 1e-9)
        shares = shares / (shares.sum(dim=1, keepdim=True) + 1e-9)
    return shares


def cross_entropy(target: Tensor, similarities: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of assignments [n, prototypes] with similarities of as many prototypes.

    Where the similarities are those of several views, [views, n, prototypes], all views of an
    object have its assignment as their target. A scalar in nats.
    """
    return -(target * log_softmax(similarities / temperature, dim=-1)).sum(dim=-1).mean()
