"""The contrastive loss of CAUSE's head, between tokens of similar and dissimilar concepts.

The projection of a token is linear in its features, so the inner product of a student's and a
teacher's projection, both with 2,048 dimensions, reduces to 91 dimensions:
``(P f + b) · z = f · P^T z + b · z``. ``P^T z`` and ``b · z`` are computed once for all anchors, so
the comparison with a bank of many thousand projections costs a tenth and gives the same cosines.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

TEMPERATURE = 0.07
POSITIVE, NEGATIVE = 0.3, 0.1
"""Concepts with a cosine above the first value are similar, below the second one dissimilar."""

_PAIRS = {"cpu": 0, "cuda": 2**27}
"""Number of pairs of an anchor and another token that are compared at a time, but at least those of
one image. On a GPU, this takes 0.5 GiB for each of about ten tensors."""


def concept_relations(codes: Tensor) -> Tensor:
    """Return whether concepts are similar (1), dissimilar (-1) or neither (0).

    Parameters
    ----------
    codes : Tensor float [K, D]

    Returns
    -------
    Tensor int8 [K, K]
    """
    unit = functional.normalize(codes, dim=-1)
    cosine = unit @ unit.T
    return (cosine > POSITIVE).to(torch.int8) - (cosine < NEGATIVE).to(torch.int8)


class Others:
    """The projections with which anchors are compared, mapped to the student's feature space.

    Parameters
    ----------
    projections : Tensor [n, 2048]
        Projections of the teacher, of unit length.
    concepts : Tensor int64 [n]
        Code of each projection; -1 for an empty row.
    projection : nn.Linear
        Projection layer of the student.

    Attributes
    ----------
    seen : Tensor [n, 90]
        ``P^T z``.
    shift : Tensor [n]
        ``b · z``.
    """

    def __init__(self, projections: Tensor, concepts: Tensor, projection: nn.Linear) -> None:
        self.concepts = concepts
        self.seen = projections @ projection.weight
        self.shift = projections @ projection.bias


def contrastive_loss(
    features: Tensor,
    concepts: Tensor,
    seen: Tensor,
    projection: nn.Linear,
    relations: Tensor,
    bank: Bank,
) -> Tensor:
    """Return the loss of a batch, in which all tokens are anchors.

    Parameters
    ----------
    features : Tensor float [B, n, 90]
        Features of the student.
    concepts : Tensor int64 [B, n]
        Code of each token.
    seen : Tensor float [B, n, 2048]
        The teacher's projections of the same tokens, of unit length.
    projection : nn.Linear
        Projection layer of the student.
    relations : Tensor int8 [K, K]
        See `concept_relations`.
    bank : Bank

    Returns
    -------
    Tensor, scalar
        Mean over images of the loss against all tokens of the batch, and against the bank unless
        it is empty.

    Notes
    -----
    Tensors as large as the bank exist only for a few images at a time, in the backward pass too:
    for one image on a CPU, and for as many as keep it busy on a GPU.
    """
    images, count = concepts.shape
    lengths = projection(features).norm(dim=-1)
    batch = Others(seen.flatten(0, 1), concepts.flatten(), projection)
    sets: list[tuple[Others, bool]] = [(batch, True)]
    if bank.written.any():
        sets.append((Others(*bank.contents(), projection), False))
    terms = []
    for others, own in sets:
        group = max(1, _PAIRS[features.device.type] // (count * len(others.concepts)))
        for first in range(0, images, group):
            part = slice(first, first + group)
            terms.append(
                checkpoint(
                    contrast, features[part], lengths[part], concepts[part], others.seen,
                    others.shift, others.concepts, relations, first * count if own else None,
                    use_reentrant=False, preserve_rng_state=False,
                )
            )  # fmt: skip
    return torch.cat(terms).mean()


def contrast(
    features: Tensor,
    lengths: Tensor,
    concepts: Tensor,
    seen: Tensor,
    shift: Tensor,
    others: Tensor,
    relations: Tensor,
    own: int | None,
) -> Tensor:
    """Return the contrastive loss of each of some images, whose tokens are the anchors.

    Parameters
    ----------
    features : Tensor [b, n, 90]
        Features of the student.
    lengths : Tensor [b, n]
        Lengths of the student's projections.
    concepts : Tensor int64 [b, n]
        Code of each anchor.
    seen, shift, others : Tensor [m, 90], Tensor [m], Tensor int64 [m]
        `Others.seen`, `Others.shift` and `Others.concepts`.
    relations : Tensor int8 [K, K]
    own : int or None
        Index of the first anchor among the others, because a token is not compared with itself.
        None: the anchors are not among them.

    Returns
    -------
    Tensor [b]
        The mean over all positive pairs (i, j) of ``-s_ij + log(sum of exp s_ik over the positives
        and negatives k of i)``, where s is the cosine divided by the temperature. Anchors with
        more positives thus have more weight. 0 if there is no such pair.
    """
    anchors = features.flatten(0, 1)
    similar = (anchors @ seen.T + shift) / lengths.reshape(-1, 1) / TEMPERATURE
    relation = relations[concepts.flatten()][:, others.clamp(min=0)] * (others >= 0)
    if own is not None:
        index = torch.arange(len(anchors), device=anchors.device)
        relation[index, own + index] = 0
    positive = relation > 0
    count = positive.sum(1)
    total = similar.masked_fill(relation == 0, -torch.inf).logsumexp(1)
    loss = torch.where(count > 0, count * total - (similar * positive).sum(1), 0.0)
    return loss.view_as(concepts).sum(1) / count.view_as(concepts).sum(1).clamp(min=1)


class Bank:
    """The memory bank: a queue of the teacher's latest projections for every concept.

    Parameters
    ----------
    concepts : int
        Number of concepts.
    dim : int
        Dimension of a projection.
    most : int
        Length of each queue.
    device : torch.device

    Attributes
    ----------
    projections : Tensor [rows, dim]
        Of unit length, in row ``queue * most + place``. A queue is created when its concept first
        occurs.
    queue : Tensor int64 [concepts]
        Index of the queue of each concept, or -1.
    written : Tensor int64 [concepts]
        Number of projections ever written for each concept, including overwritten ones.
    """

    def __init__(self, concepts: int, dim: int, most: int, device: torch.device) -> None:
        self.most = most
        self.projections = torch.zeros(0, dim, device=device)
        self._concepts = torch.zeros(0, dtype=torch.int64, device=device)  # of each row
        self.queue = torch.full((concepts,), -1, dtype=torch.int64)
        self.written = torch.zeros(concepts, dtype=torch.int64)

    def append(self, projections: Tensor, concepts: Tensor, generator: torch.Generator) -> None:
        """Add a random half of the projections of each concept, rounded down.

        Parameters
        ----------
        projections : Tensor [n, dim]
        concepts : Tensor int64 [n]
        generator : torch.Generator
            On the CPU.
        """
        if not self.most:
            return
        concepts = concepts.cpu()
        shuffled = torch.randperm(len(concepts), generator=generator)
        order = shuffled[concepts[shuffled].argsort(stable=True)]
        present, group, counts = torch.unique_consecutive(
            concepts[order], return_inverse=True, return_counts=True
        )
        kept = (counts // 2).clamp(max=self.most)
        self._make_queues(present[(kept > 0) & (self.queue[present] < 0)])
        rank = torch.arange(len(order)) - (counts.cumsum(0) - counts)[group]
        chosen = rank < kept[group]
        concept = concepts[order[chosen]]
        place = (self.written[concept] + rank[chosen]) % self.most
        self.written[present] += kept
        device = self.projections.device
        row = (self.queue[concept] * self.most + place).to(device)
        kept_rows = projections[order[chosen].to(device)]
        self.projections[row] = kept_rows.to(self.projections.dtype)
        self._concepts[row] = concept.to(device)

    def _make_queues(self, concepts: Tensor) -> None:
        made = int((self.queue >= 0).sum())
        self.queue[concepts] = made + torch.arange(len(concepts))
        if self._used() > len(self.projections):  # by 1.5 times, so that there are few copies
            held = len(self.projections)
            rows = min(max(self._used(), 3 * held // 2), len(self.queue) * self.most)
            larger = self.projections.new_zeros(rows, self.projections.shape[1])
            larger[:held] = self.projections
            self.projections = larger
            self._concepts = functional.pad(self._concepts, (0, rows - held), value=-1)

    def contents(self) -> tuple[Tensor, Tensor]:
        """Return all queues, [queues * most, dim], and the concept of each row (-1 if empty).

        Both are views, not copies.
        """
        return self.projections[: self._used()], self._concepts[: self._used()]

    def _used(self) -> int:
        """Return the number of rows of all queues, including empty rows."""
        return int((self.queue >= 0).sum()) * self.most

    def state(self) -> dict[str, Tensor]:
        """Return the state for a checkpoint."""
        return {
            "projections": self.projections[: self._used()],
            "queue": self.queue,
            "written": self.written,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state returned by `state`."""
        self.projections = tensors["projections"].to(self.projections.device)
        self.queue, self.written = tensors["queue"], tensors["written"]
        concept = (self.queue >= 0).nonzero().squeeze(1)
        concept = concept[self.queue[concept].argsort()]
        held = self.written[concept].clamp(max=self.most)
        empty = torch.arange(self.most) >= held.unsqueeze(1)
        rows = concept.unsqueeze(1).expand(-1, self.most).masked_fill(empty, -1).flatten()
        self._concepts = rows.to(self.projections.device)
