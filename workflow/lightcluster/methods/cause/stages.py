"""The three training stages of CAUSE: clusterbook, head and cluster probe."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor, nn

from lightcluster.checkpoints import below, read_tensors, write_tensors
from lightcluster.clustering.kmeans import fit_kmeans
from lightcluster.datasets.labels import read_classes
from lightcluster.methods.cause.adoption import ABOUT, PALETTE, Trained
from lightcluster.methods.cause.contrastive import Bank, concept_relations, contrastive_loss
from lightcluster.methods.cause.course import Course, Stage, train, write_losses
from lightcluster.methods.cause.heads import (
    FEATURES,
    PROJECTED,
    Learner,
    MlpHead,
    build_head,
    move_teacher,
    nearest_codes,
)
from lightcluster.methods.cause.modularity import modularity_loss, sample_grid, take
from lightcluster.methods.cause.supervision import Supervision, supervised_loss
from lightcluster.methods.cause.tokens import Tokens
from lightcluster.regions.number import Setting, number_of_clusters
from lightcluster.regions.palette import write_palette

log = logging.getLogger(__name__)

HeadKind = Literal["mlp", "tr"]
TeacherStart = Literal["own", "shared"]

MOMENTUM = 0.99
"""Momentum of the teacher."""

USED = "codes_used"
"""Key in the clusterbook's file: number of codes that are nearest to some token."""


class Codes(nn.Module):
    """Vectors with which tokens are compared: a clusterbook or a cluster probe.

    Parameters
    ----------
    count, dim : int
    bound : float
        They are initialised uniformly in [-bound, bound].
    """

    def __init__(self, count: int, dim: int, bound: float) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(count, dim).uniform_(-bound, bound))


def arithmetic(device: torch.device) -> torch.autocast:
    """Return the autocast context for heads: bfloat16 on GPUs that support it, else float32.

    Losses are always computed in single precision, outside this context.
    """
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(False)
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


class ClusterbookStage(Stage):
    """Step 1: the codes of the concepts, by the modularity of the backbone's tokens.

    Parameters
    ----------
    codes : int
        Number of codes.
    tokens : Tokens
    seed : int
        Seed of the initialisation.
    device : str
    """

    name = "clusterbook"

    def __init__(self, codes: int, tokens: Tokens, seed: int, device: str) -> None:
        torch.manual_seed(seed)
        self.codes = Codes(codes, tokens.dim, 1 / codes).to(device)
        self.grid = tokens.grid
        self.modules = {"codes": self.codes}
        self.trained = list(self.codes.parameters())

    def losses(
        self, tokens: Tensor, views: NDArray[np.intp], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        positions = sample_grid(len(tokens), self.grid, generator).to(tokens.device)
        return {"modularity": modularity_loss(take(tokens, positions), self.codes.rows)}


class HeadStage(Stage):
    """Step 2: the head, by a contrastive loss between a student and its teacher.

    Parameters
    ----------
    head : {"mlp", "tr"}
    codes : Tensor [K, D]
    bank : int
        Number of projections per concept in the memory bank.
    tokens : Tokens
    seed : int
    device : str
    teacher_start : {"own", "shared"}
        Whether the teacher starts as a copy of the student, or equals it until after the first
        step.
    supervision : Supervision, optional
        Labels for a linear probe on the teacher's features. Its gradient reaches only the probe,
        but counts towards the clipped norm.
    """

    name = "head"

    def __init__(
        self,
        head: HeadKind,
        codes: Tensor,
        bank: int,
        tokens: Tokens,
        seed: int,
        device: str,
        teacher_start: TeacherStart = "own",
        supervision: Supervision | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.student = Learner(head, tokens.dim, math.prod(tokens.grid)).to(device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.codes = codes.to(device)
        self.relations = concept_relations(self.codes)
        self.bank = Bank(len(codes), PROJECTED, bank, torch.device(device))
        self.grid = tokens.grid
        self.modules = {"student": self.student, "teacher": self.teacher}
        self.trained = list(self.student.parameters())
        self.supervision = supervision
        if supervision is not None:
            self.linear = nn.Linear(FEATURES, supervision.classes).to(device)
            self.modules["linear"] = self.linear
            self.trained += self.linear.parameters()
        self._is_one = teacher_start == "shared"  # teacher = student until after the first step
        self._seen: tuple[Tensor, Tensor]

    def losses(
        self, tokens: Tensor, views: NDArray[np.intp], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        positions = sample_grid(len(tokens), self.grid, generator).to(tokens.device)
        losses = {"contrast": self._contrast(tokens, positions)}
        if self.supervision is not None:
            queries = self.codes[nearest_codes(tokens, self.codes)]
            with torch.no_grad(), arithmetic(tokens.device):
                features = self.teacher.head(tokens, queries)
            scores = as_maps(self.linear(features.float()), self.grid)
            labels = self.supervision.labels_of(views).to(tokens.device)
            losses["linear_probe"] = supervised_loss(scores, labels)
        return losses

    def _contrast(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the contrastive loss of the tokens at the given positions of each image."""
        if isinstance(self.student.head, MlpHead):  # processes each token separately
            tokens = take(tokens, positions)
            positions = torch.arange(positions.shape[1], device=tokens.device).expand_as(positions)
        nearest = nearest_codes(tokens, self.codes)
        queries = self.codes[nearest]
        concepts = nearest.gather(1, positions)
        with arithmetic(tokens.device):
            features = take(self.student.head(tokens, queries), positions)
            with torch.no_grad():
                taught = take(self.teacher.head(tokens, queries), positions)
        with torch.no_grad():
            seen = functional.normalize(self.teacher.projection(taught.float()), dim=-1)
        self._seen = seen, concepts
        return contrastive_loss(
            features.float(), concepts, seen, self.student.projection, self.relations, self.bank
        )

    def after_step(self, generator: torch.Generator) -> None:
        """Update the teacher, and add its projections to the bank."""
        move_teacher(self.teacher, self.student, 0.0 if self._is_one else MOMENTUM)
        self._is_one = False
        seen, concepts = self._seen
        self.bank.append(seen.flatten(0, 1), concepts.flatten(), generator)

    def extra_state(self) -> dict[str, Tensor]:
        """Return the state of the bank."""
        return self.bank.state()

    def restore_extra(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the bank; checkpoints are written after the first step or later."""
        self.bank.restore(tensors)
        self._is_one = False


class ProbeStage(Stage):
    """Step 3: as many clusters as classes, by the modularity of the head's features.

    Parameters
    ----------
    head : nn.Module
        The teacher's head, which is evaluated.
    codes : Tensor [K, D]
    clusters : int
    tokens : Tokens
    seed : int
    device : str
    supervision : Supervision, optional
        Labels for a linear probe that is trained alongside the cluster probe.
    dropout : bool
        Whether the head applies dropout during this training.
    linear : mapping of str to Tensor, optional
        Initial state of the linear probe.
    """

    name = "probe"

    def __init__(
        self,
        head: nn.Module,
        codes: Tensor,
        clusters: int,
        tokens: Tokens,
        seed: int,
        device: str,
        supervision: Supervision | None = None,
        *,
        dropout: bool = False,
        linear: Mapping[str, Tensor] | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.probe = Codes(clusters, FEATURES, 1 / clusters).to(device)
        self.head = head.to(device).eval()
        self.codes = codes.to(device)
        self.grid = tokens.grid
        self.dropout = dropout
        self.supervision = supervision
        self.leaks = supervision is not None and supervision.leaks
        self.head.requires_grad_(self.leaks)
        self.modules = {"probe": self.probe}
        self.trained = list(self.probe.parameters())
        if supervision is not None:
            self.linear = nn.Linear(FEATURES, supervision.classes).to(device)
            if linear is not None:
                self.linear.load_state_dict(linear)
            self.modules["linear"] = self.linear
            self.trained += self.linear.parameters()
        if self.leaks:
            self.modules["head"] = self.head
            self.trained += self.head.parameters()

    def losses(
        self, tokens: Tensor, views: NDArray[np.intp], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """See `Stage.losses`. The supervised loss changes the head only if `leaks`."""
        queries = self.codes[nearest_codes(tokens, self.codes)]
        self.head.train(self.dropout)
        with torch.set_grad_enabled(self.leaks), arithmetic(tokens.device):
            features = self.head(tokens, queries)
        self.head.eval()
        features = features.float()
        positions = sample_grid(len(tokens), self.grid, generator).to(tokens.device)
        sampled = take(features.detach(), positions)
        losses = {"modularity": modularity_loss(sampled, self.probe.rows)}
        if self.supervision is not None:
            labels = self.supervision.labels_of(views).to(tokens.device)
            seen = features if self.leaks else features.detach()
            losses["linear_probe"] = supervised_loss(as_maps(self.linear(seen), self.grid), labels)
        return losses


def as_maps(rows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Reshape values of tokens, [B, T, C], to maps [B, C, rows, columns]."""
    return rows.transpose(1, 2).reshape(len(rows), -1, *grid)


def fit_clusterbook(
    crops: Sequence[Path],
    output: Path,
    losses: Path,
    *,
    codes: int,
    course: Course,
    device: str,
) -> None:
    """Train the clusterbook; write ``codes`` float32 [K, D] and the loss of every step.

    Parameters
    ----------
    crops : sequence of Path
        Token stores of all shards.
    output, losses : Path
    codes : int
        Number of codes.
    course : Course
    device : str
    """
    tokens = Tokens(crops)
    stage = ClusterbookStage(codes, tokens, course.seed, device)
    checkpoint = _checkpoint(output)
    table = train(stage, tokens, course, checkpoint, about={"codes": codes}, device=device)
    used = count_used(stage.codes.rows.detach(), tokens, device)
    log.info("%d of %d codes are nearest to some token", used, codes)
    write_losses(losses, table)
    write_tensors(output, {"codes": stage.codes.rows}, {USED: str(used)})
    checkpoint.unlink(missing_ok=True)


def train_head(
    crops: Sequence[Path],
    clusterbook: Path,
    output: Path,
    losses: Path,
    *,
    head: HeadKind,
    bank: int,
    course: Course,
    device: str,
    teacher_start: TeacherStart = "own",
    supervision: Callable[[Tokens], Supervision] | None = None,
) -> None:
    """Train the head; write the teacher's parameters, ``codes`` and the loss of every step.

    Parameters
    ----------
    crops, clusterbook : sequence of Path, Path
    output, losses : Path
    head : {"mlp", "tr"}
    bank : int
        Number of projections per concept in the memory bank.
    course : Course
    device : str
    teacher_start : {"own", "shared"}
        See `HeadStage`.
    supervision : callable, optional
        Returns the labels for a linear probe, given the tokens; the probe is written, too.
    """
    tokens = Tokens(crops)
    codes = read_tensors(clusterbook)[0]["codes"]
    labels = supervision(tokens) if supervision is not None else None
    stage = HeadStage(head, codes, bank, tokens, course.seed, device, teacher_start, labels)
    checkpoint = _checkpoint(output)
    about = {
        "head": head, "bank": bank, "clusterbook": _digest(clusterbook),
        "teacher_start": teacher_start, "labels": None if labels is None else labels.digest,
    }  # fmt: skip
    table = train(stage, tokens, course, checkpoint, about=about, device=device)
    write_losses(losses, table)
    tensors = {f"head.{name}": t for name, t in stage.teacher.head.state_dict().items()}
    if labels is not None:
        tensors |= {f"linear.{name}": t for name, t in stage.linear.state_dict().items()}
    write_tensors(output, {**tensors, "codes": codes}, {})
    checkpoint.unlink(missing_ok=True)


def fit_probe(
    crops: Sequence[Path],
    head: Path,
    classes_file: Path | None,
    output: Path,
    losses: Path,
    palette: Path,
    *,
    about: Mapping[str, Any],
    classes: Setting,
    background: int | None,
    start: Literal["uniform", "kmeans"],
    restarts: int,
    iterations: int,
    course: Course,
    device: str,
    dropout: bool = False,
    supervision: Callable[[Tokens], Supervision] | None = None,
) -> None:
    """Train the cluster probe; write ``codes``, the head and ``probe`` [n, 90].

    Parameters
    ----------
    crops, head : sequence of Path, Path
    classes_file : Path or None
        Determines the number of clusters with ``classes="auto"``.
    output, losses, palette : Path
        The palette is also written beside `output`, for runs that adopt the probe.
    about : mapping
        ``framing``, ``size``, ``resampling`` and ``images`` of `adoption.Trained`.
    classes, background, restarts, iterations
        See the configuration; the last two are for the k-means initialisation.
    start : {"uniform", "kmeans"}
        Initialisation of the probe.
    course : Course
    device : str
    dropout : bool
        Whether the head applies dropout during this training.
    supervision : callable, optional
        Returns the labels for a linear probe, given the tokens. If a linear probe was trained with
        the head, its training is continued.
    """
    tokens = Tokens(crops)
    trained = read_head(head, device)
    known = read_classes(classes_file) if classes_file is not None else None
    clusters = number_of_clusters(classes, known, background)
    labels = supervision(tokens) if supervision is not None else None
    stage = ProbeStage(
        trained.network, trained.codes, clusters, tokens, course.seed, device, labels,
        dropout=dropout, linear=trained.linear,
    )  # fmt: skip
    if start == "kmeans":
        fitted = fit_kmeans(
            sampled_features(stage, tokens, device), clusters,
            metric="spherical", restarts=restarts, iterations=iterations, seed=course.seed,
        )  # fmt: skip
        stage.probe.rows.data = torch.from_numpy(fitted.centroids).to(device)
    checkpoint = _checkpoint(output)
    identity = {
        "clusters": clusters, "head": _digest(head), "start": [start, restarts, iterations],
        "dropout": dropout,
        "linear": None if labels is None else [labels.leaks, labels.digest],
    }  # fmt: skip
    table = train(stage, tokens, course, checkpoint, about=identity, device=device)
    write_losses(losses, table)
    sizes = cluster_sizes(stage, tokens, device)
    log.info("tokens in each cluster: %s", sizes)
    for path in (palette, output.with_name(PALETTE)):
        write_palette(path, [f"cluster {n}" for n in range(clusters)], sizes, "tokens")
    state = {f"head.{name}": t for name, t in stage.head.state_dict().items()}
    tensors = {**state, "codes": trained.codes, "probe": stage.probe.rows}
    described = Trained(
        head=trained.kind, weights=tokens.weights, mean=tokens.mean, std=tokens.std,
        positions=tokens.positions, supervised=stage.leaks, **about,
    )  # fmt: skip
    write_tensors(output, tensors, {ABOUT: described.model_dump_json()})
    checkpoint.unlink(missing_ok=True)


class TrainedHead(NamedTuple):
    """A trained head, as written by the second and third stage.

    Attributes
    ----------
    network : nn.Module
        The head, in evaluation mode.
    codes : Tensor [K, D]
        The clusterbook with which it was trained.
    kind : {"mlp", "tr"}
    probe : Tensor [n, 90] or None
        The cluster probe; None before the third stage.
    linear : dict of str to Tensor, or None
        State of a linear probe that was trained with the head.
    """

    network: nn.Module
    codes: Tensor
    kind: HeadKind
    probe: Tensor | None
    linear: dict[str, Tensor] | None


def read_head(path: Path, device: str) -> TrainedHead:
    """Read the output of `train_head` or `fit_probe` to a device."""
    tensors, _ = read_tensors(path)
    codes, state = tensors["codes"].to(device), below(tensors, "head.")
    kind: HeadKind = "tr" if "position" in state else "mlp"
    count = len(state["position"]) if kind == "tr" else 0
    head = build_head(kind, codes.shape[1], count)
    head.load_state_dict(state)
    probe = tensors["probe"].to(device) if "probe" in tensors else None
    network = head.to(device).eval().requires_grad_(False)
    return TrainedHead(network, codes, kind, probe, below(tensors, "linear.") or None)


@torch.inference_mode()
def count_used(codes: Tensor, tokens: Tokens, device: str) -> int:
    """Return the number of codes that are nearest to some token of up to `_LOOKED_AT` views."""
    used = torch.zeros(len(codes), dtype=torch.bool, device=device)
    for part in _some_views(tokens):
        used[nearest_codes(tokens.read(part, device), codes)] = True
    return int(used.sum())


@torch.no_grad()
def sampled_features(stage: ProbeStage, tokens: Tokens, device: str) -> NDArray[np.float32]:
    """Return unit-length features of sampled tokens of up to `_LOOKED_AT` views: [n, 90]."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for part in _some_views(tokens):
        batch = tokens.read(part, device)
        features = stage.head(batch, stage.codes[nearest_codes(batch, stage.codes)])
        positions = sample_grid(len(batch), tokens.grid, generator).to(device)
        found.append(functional.normalize(take(features, positions), dim=-1).flatten(0, 1))
    return torch.cat(found).cpu().numpy()


@torch.inference_mode()
def cluster_sizes(stage: ProbeStage, tokens: Tokens, device: str) -> list[int]:
    """Return the number of tokens nearest to each probe vector, in up to `_LOOKED_AT` views."""
    sizes = torch.zeros(len(stage.probe.rows), dtype=torch.int64, device=device)
    for part in _some_views(tokens):
        batch = tokens.read(part, device)
        features = stage.head(batch, stage.codes[nearest_codes(batch, stage.codes)])
        nearest = nearest_codes(features, stage.probe.rows)
        sizes += nearest.flatten().bincount(minlength=len(sizes))
    return [int(size) for size in sizes]


_LOOKED_AT = 512


def _some_views(tokens: Tokens) -> list[NDArray[np.intp]]:
    """Return evenly spaced views in batches."""
    views = np.linspace(0, tokens.count - 1, min(_LOOKED_AT, tokens.count)).astype(np.intp)
    return np.array_split(views, -(-len(views) // 16))


def _checkpoint(output: Path) -> Path:
    """Return the path of the checkpoint for an output file."""
    return output.with_name(f"{output.stem}.checkpoint.safetensors")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
