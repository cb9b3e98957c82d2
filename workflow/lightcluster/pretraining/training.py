"""The training loop, resumable and reproducible.

All random numbers of a step are derived from (seed, step), and the order of the objects from (seed,
epoch). Checkpoints therefore need no random state, and a run that was killed and resumed gives the
same weights as an uninterrupted one (on the same device with the same number of threads).
"""

from __future__ import annotations

import copy
import csv
import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from lightcluster.checkpoints import (
    read_tensors,
    restore_training,
    training_state,
    write_tensors,
)
from lightcluster.errors import ConfigError, LightClusterError, StoreError
from lightcluster.extraction.backbones.registry import find_family
from lightcluster.extraction.precision import autocast, resolve_precision
from lightcluster.files import replacing
from lightcluster.pretraining.corpus import PICTURES, load_corpus
from lightcluster.pretraining.curve import plot_losses
from lightcluster.pretraining.initialization import initialize
from lightcluster.pretraining.objective import (
    PrototypeHead,
    balanced_assignments,
    cross_entropy,
)
from lightcluster.pretraining.recipe import Recipe
from lightcluster.pretraining.views import crop_views, random_boxes, random_masks, relight

if TYPE_CHECKING:
    from timm.layers.attention import Attention
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import Block, VisionTransformer

LOG_EVERY = 50
"""Number of steps that are averaged to one row of the log."""

CHECKPOINT_EVERY = 250
"""Steps between checkpoints; a multiple of `LOG_EVERY`, so that rows are complete."""

SHOWN = 2
"""Number of pictures of an object of which the student sees global views."""

COLUMNS = ("step", "class_loss", "patch_loss", "learning_rate", "seconds")


@dataclass(frozen=True)
class Views:
    """The views of a step.

    Attributes
    ----------
    whole : Tensor float32 [PICTURES · batch, 3, S, S]
        A normalised global view of each picture: first those of the first picture of all objects,
        then of the second picture, and so on. The teacher sees all of them.
    local : Tensor float32 [local views · batch, 3, s, s]
        Local views for the student, in the same order.
    hidden : Tensor bool [SHOWN · batch, patches]
        Masked patches in the first global views, which the student sees.
    """

    whole: Tensor
    local: Tensor
    hidden: Tensor


class Learner(nn.Module):
    """The backbone with the heads and the mask token that are only needed in training.

    Parameters
    ----------
    network : VisionTransformer
    recipe : Recipe
    """

    def __init__(self, network: VisionTransformer, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        sizes = (network.embed_dim, recipe.bottleneck, recipe.bases)
        self.class_head, self.patch_head = PrototypeHead(*sizes), PrototypeHead(*sizes)
        self.mask_token = nn.Parameter(torch.zeros(network.embed_dim))

    def tokens(self, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return class and patch tokens [n, 1 + T, D]; `hidden` [n, T] patches are masked."""
        network = self.network
        patches = network.patch_embed(images)  # [n, rows, columns, D]
        if hidden is not None:
            mask = hidden.view(*patches.shape[:3], 1)
            patches = torch.where(mask, self.mask_token.to(patches.dtype), patches)
        tokens = network.blocks(network.norm_pre(network._pos_embed(patches)))
        return cast("Tensor", network.norm(tokens))


def pretrain(
    output: Path, recipe: Recipe, *, device: str = "cpu", threads: int = 2, progress: bool = True
) -> Path:
    """Train a backbone, or resume an interrupted training.

    Parameters
    ----------
    output : Path
        Folder of ``corpus.npy`` (the pictures), ``checkpoint.safetensors``, ``losses.csv`` and, at
        the end, ``weights.safetensors`` and ``losses.svg``.
    recipe : Recipe
    device : str
        Such as ``"cpu"`` or ``"cuda:0"``.
    threads : int
        Number of torch threads, and of processes that draw pictures.
    progress : bool
        Whether to show a progress bar on standard error.

    Returns
    -------
    Path
        The weights of the teacher, as safetensors in float16.

    Raises
    ------
    ConfigError
        If the folder contains a checkpoint of another recipe.
    StoreError
        If the pictures or the checkpoint are damaged.
    LightClusterError
        If the loss is not finite; the last checkpoint is kept.
    """
    torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus(recipe, output / "corpus.npy", threads)
    family, _ = find_family(recipe.model)
    torch.manual_seed(recipe.seed)
    network = cast("VisionTransformer", family.build(recipe.model))
    published = family.published(network)
    mean, std = published.mean, published.std
    patch = cast("PatchEmbed", network.patch_embed).patch_size[0]
    initialize(network, corpus.reshape(-1, *corpus.shape[2:]), mean, std, recipe.seed)
    student = Learner(network, recipe).to(device)
    _use_plain_attention(student)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = _optimizer(student, recipe)
    checkpoint, log = output / "checkpoint.safetensors", _Log(output / "losses.csv")
    first = _resume(checkpoint, student, teacher, optimizer, recipe) if checkpoint.exists() else 0
    log.keep_until(first)

    bar = tqdm(
        total=recipe.steps,
        initial=first,
        unit="step",
        file=sys.stderr,
        disable=not progress,
        mininterval=0.5 if sys.stderr.isatty() else 15.0,
    )
    dtype = resolve_precision("auto", device)
    with bar:
        for step, views in _views_ahead(corpus, recipe, first, patch, mean, std):
            moved = Views(*(t.to(device) for t in (views.whole, views.local, views.hidden)))
            losses = _step(student, teacher, optimizer, moved, recipe, step, dtype)
            if not all(map(math.isfinite, losses)):
                raise LightClusterError(
                    f"step {step}: a loss is not finite ({losses}); lower learning_rate. The last "
                    f"checkpoint is {checkpoint}"
                )
            log.add(step, losses, learning_rate(recipe, step))
            bar.update()
            bar.set_postfix_str(f"loss {losses[0]:.3f} + {losses[1]:.3f}", refresh=False)
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == recipe.steps:
                log.write()
                _save(checkpoint, student, teacher, optimizer, recipe, step + 1)
    weights = output / "weights.safetensors"
    state = {name: tensor.half() for name, tensor in teacher.network.state_dict().items()}
    write_tensors(weights, state, {})
    plot_losses(log.path, recipe.prototypes, output / "losses.svg")
    return weights


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate at a step: linear warm-up, then a cosine down to 2 %."""
    done = step / recipe.steps
    if done < recipe.warmup:
        return recipe.learning_rate * (done + 1 / recipe.steps) / (recipe.warmup + 1 / recipe.steps)
    wave = (1 + math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup))) / 2
    return recipe.learning_rate * (0.02 + 0.98 * wave)


def teacher_momentum(recipe: Recipe, step: int) -> float:
    """Return the momentum of the teacher at a step, which rises from `recipe.momentum` to 1."""
    return 1 - (1 - recipe.momentum) * (1 + math.cos(math.pi * step / recipe.steps)) / 2


def make_views(
    corpus: NDArray[np.uint8],
    recipe: Recipe,
    step: int,
    patch: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Views:
    """Return the views of a step, which depend only on the arguments.

    Parameters
    ----------
    corpus : uint8 array, shape (objects, PICTURES, side, side)
    recipe : Recipe
    step : int
    patch : int
        Side of a patch in pixels.
    mean, std : (float, float, float)
        Normalisation of the RGB channels, in [0, 1].

    Returns
    -------
    Views
    """
    objects = corpus[objects_of(recipe, step)]
    rng = np.random.default_rng([recipe.seed, 1, step])
    shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))

    def draw(count: int, side: int, area: tuple[float, float]) -> Tensor:
        pictures = np.concatenate([objects[:, view % PICTURES] for view in range(count)])
        boxes = random_boxes(rng, len(pictures), recipe.scene_side, area)
        views = crop_views(pictures, boxes, rng.random(len(pictures)) < 0.5, side)
        views = relight(views, rng, recipe.jitter, recipe.inverted)
        return (views - shift) / scale

    whole = draw(PICTURES, recipe.global_side, recipe.global_area)
    local = draw(recipe.local_views, recipe.local_side, recipe.local_area)
    grid = recipe.global_side // patch
    hidden = random_masks(rng, SHOWN * recipe.batch, grid, recipe.masked, recipe.masked_patches)
    return Views(whole, local, torch.from_numpy(hidden))


def objects_of(recipe: Recipe, step: int) -> NDArray[np.intp]:
    """Return the objects of a step, [batch]; each occurs once per epoch, in a new random order."""
    positions = np.arange(step * recipe.batch, (step + 1) * recipe.batch)
    chosen = np.empty(recipe.batch, np.intp)
    for epoch in np.unique(positions // recipe.objects):
        order = np.random.default_rng([recipe.seed, 0, epoch]).permutation(recipe.objects)
        now = positions // recipe.objects == epoch
        chosen[now] = order[positions[now] % recipe.objects]
    return chosen


def _views_ahead(
    corpus: NDArray[np.uint8], recipe: Recipe, first: int, patch: int, mean: Any, std: Any
) -> Iterator[tuple[int, Views]]:
    """Yield the remaining steps with their views; a thread prepares the next ones."""
    with ThreadPoolExecutor(1, thread_name_prefix="views") as pool:

        def make(step: int) -> Future[Views]:
            return pool.submit(make_views, corpus, recipe, step, patch, mean, std)

        ahead: deque[Future[Views]] = deque()
        for step in range(first, recipe.steps):
            ahead = ahead or deque([make(step)])
            if step + 1 < recipe.steps:
                ahead.append(make(step + 1))
            yield step, ahead.popleft().result()


def _step(
    student: Learner,
    teacher: Learner,
    optimizer: torch.optim.Optimizer,
    views: Views,
    recipe: Recipe,
    step: int,
    precision: torch.dtype,
) -> tuple[float, float]:
    """Take one step; return the losses of class tokens and of masked patches, in nats."""
    batch, count = recipe.batch, recipe.prototypes
    with autocast(views.whole.device, precision):
        with torch.no_grad():
            seen = teacher.tokens(views.whole).float()
        tokens = student.tokens(views.whole[: SHOWN * batch], views.hidden).float()
        local = student.tokens(views.local)[:, 0].float()
    with torch.no_grad():
        agreed = teacher.class_head(seen[:, 0]).view(PICTURES, batch, count).mean(dim=0)
        assigned = balanced_assignments(agreed, recipe.sharpness)
    similar = student.class_head(torch.cat([tokens[:, 0], local])).view(-1, batch, count)
    of_classes = cross_entropy(assigned, similar, recipe.temperature)
    of_patches = torch.zeros((), device=of_classes.device)
    if recipe.patch_weight > 0 and int(views.hidden.sum()) > 1:
        with torch.no_grad():
            target = balanced_assignments(
                teacher.patch_head(seen[: SHOWN * batch, 1:][views.hidden]), recipe.sharpness
            )
        guess = student.patch_head(tokens[:, 1:][views.hidden])
        of_patches = cross_entropy(target, guess, recipe.temperature)

    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    optimizer.zero_grad()
    (of_classes + recipe.patch_weight * of_patches).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(student.parameters(), recipe.clip)
    optimizer.step()
    with torch.no_grad():
        torch._foreach_lerp_(
            list(teacher.parameters()),
            list(student.parameters()),
            1 - teacher_momentum(recipe, step),
        )
    return of_classes.item(), of_patches.item()


def _use_plain_attention(learner: Learner) -> None:
    """Switch off torch's fused attention, whose backward pass is slow for few tokens on a CPU."""
    for block in learner.network.blocks:
        attention = cast("Attention", cast("Block", block).attn)
        attention.fused_attn = False  # type: ignore[misc]


def _optimizer(student: Learner, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for p in student.parameters() if p.ndim > 1]
    vectors = [p for p in student.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


class _Log:
    """The log of losses, with one row for the mean of every `LOG_EVERY` steps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._recent: list[tuple[float, float]] = []
        self._since = time.monotonic()

    def keep_until(self, step: int) -> None:
        """Read the rows of an interrupted run up to a step."""
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]

    def add(self, step: int, losses: tuple[float, float], rate: float) -> None:
        self._recent.append(losses)
        if (step + 1) % LOG_EVERY:
            return
        of_classes, of_patches = np.mean(self._recent, axis=0)
        now = time.monotonic()
        values = (
            f"{of_classes:.4f}",
            f"{of_patches:.4f}",
            f"{rate:.3e}",
            f"{now - self._since:.1f}",
        )
        self.rows.append(dict(zip(COLUMNS, (step + 1, *values), strict=True)))
        self._recent, self._since = [], now

    def write(self) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(self.rows)


def _save(
    path: Path,
    student: Learner,
    teacher: Learner,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    step: int,
) -> None:
    """Write a checkpoint."""
    tensors = training_state({"student": student, "teacher": teacher}, optimizer)
    write_tensors(path, tensors, {"recipe": recipe.model_dump_json(), "step": str(step)})


def _resume(
    path: Path,
    student: Learner,
    teacher: Learner,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
) -> int:
    """Load a checkpoint; return the number of completed steps.

    Raises
    ------
    ConfigError
        If it belongs to another recipe.
    StoreError
        If it is damaged.
    """
    tensors, about = read_tensors(path)
    try:
        found, step = Recipe.model_validate_json(about["recipe"]), int(about["step"])
    except (KeyError, ValueError) as error:
        raise StoreError(f"{path}: damaged ({error}); delete it and start again") from None
    if found != recipe:
        changed = [k for k, value in recipe.model_dump().items() if found.model_dump()[k] != value]
        raise ConfigError(
            f"{path}: belongs to another recipe (different {', '.join(changed)}); choose another "
            "folder, or delete the checkpoint to start again"
        )
    restore_training(tensors, {"student": student, "teacher": teacher}, optimizer)
    return step
