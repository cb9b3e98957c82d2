"""The pretraining objective: the student predicts the teacher's assignments to prototypes.

As in DINO (Caron et al. 2021), the teacher has the student's architecture and is a moving average
of it; as in SwAV (Caron et al. 2020), Sinkhorn-Knopp balances the teacher's assignments over the
prototypes; as in iBOT (Zhou et al. 2022), the student must also predict the assignments of masked
patches, which the teacher sees.

Two changes prevent a short training from collapsing to uniform predictions: the prototypes are
fixed and span the embedding space, and the teacher's logits are standardised before balancing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

HIDDEN = 384


class PrototypeHead(nn.Module):
    """An MLP, followed by cosine similarities to fixed prototypes.

    Parameters
    ----------
    features : int
        Dimension of the tokens.
    bottleneck : int
        Dimension of the prototypes.
    bases : int
        Number of random orthonormal bases whose vectors are the prototypes. The squared
        similarities of any token sum to `bases`, so no token is dissimilar to all prototypes.
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
        """Return similarities [n, prototypes] in [-1, 1] of tokens [n, features]."""
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
        Number of Sinkhorn-Knopp iterations.

    Returns
    -------
    Tensor [n, prototypes]
        Rows sum to 1; columns have approximately equal sums.
    """
    logits = sharpness * (similarities - similarities.mean(dim=0))
    logits = logits / (similarities.std(dim=0) + 1e-6)
    shares = (logits - logits.amax(dim=1, keepdim=True)).exp()
    for _ in range(iterations):
        shares = shares / (shares.sum(dim=0, keepdim=True) + 1e-9)
        shares = shares / (shares.sum(dim=1, keepdim=True) + 1e-9)
    return shares


def cross_entropy(target: Tensor, similarities: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of the teacher's assignments and the student's predictions.

    Parameters
    ----------
    target : Tensor [n, prototypes]
        Assignments.
    similarities : Tensor [n, prototypes] or [views, n, prototypes]
        Of the student; all views of an object have the same target.
    temperature : float
        Divisor of the similarities.

    Returns
    -------
    Tensor, scalar
        In nats.
    """
    return -(target * log_softmax(similarities / temperature, dim=-1)).sum(dim=-1).mean()
