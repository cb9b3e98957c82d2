"""The training loop of CAUSE's three stages, resumable and reproducible.

All random numbers of a step are derived from (seed, stage, step), and the order of the views from
(seed, stage, epoch). Checkpoints therefore need no random state, and a training that was killed and
resumed ends with the same weights as an uninterrupted one (on a CPU with the same threads).
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from lightcluster.ahead import compute_ahead
from lightcluster.checkpoints import read_tensors, restore_training, training_state, write_tensors
from lightcluster.errors import LightClusterError, StoreError
from lightcluster.files import replacing
from lightcluster.methods.cause.settings import CauseSettings
from lightcluster.methods.cause.tokens import Tokens

log = logging.getLogger(__name__)

CHECKPOINT_EVERY = 500
"""Steps between checkpoints within an epoch."""

CHECKPOINT_SHARE, CHECKPOINT_SLACK = 0.1, 1.0
"""Checkpoints may take this share of the time plus this many seconds. With short epochs and a large
bank, some epochs therefore end without a checkpoint."""

READERS = 4
"""Number of threads that read batches ahead."""


@dataclass(frozen=True)
class Course:
    """The training schedule of a stage.

    Attributes
    ----------
    epochs : int
        Minimum number of passes over the views.
    least_steps : int
        Minimum number of steps: with few views, there are more epochs.
    batch_size : int
    learning_rate : float
        Initial learning rate of Adam.
    decay : float
        Factor of the learning rate after every `decay_epochs`.
    decay_epochs : int
        Counted in `epochs`; with more epochs than these, scaled accordingly.
    weight_decay : float
        L2 regularisation of Adam.
    clip : float
        Maximum norm of the gradient.
    seed : int
    """

    epochs: int
    least_steps: int
    batch_size: int
    learning_rate: float
    decay: float = 1.0
    decay_epochs: int = 1
    weight_decay: float = 0.0
    clip: float = math.inf
    seed: int = 0

    def steps_of_epoch(self, views: int) -> int:
        """Return the number of full batches of `views` views, at least 1."""
        return max(1, views // self.batch_size)

    def steps(self, views: int) -> int:
        """Return the total number of steps for `views` views, in whole epochs."""
        epoch = self.steps_of_epoch(views)
        return epoch * max(self.epochs, math.ceil(self.least_steps / epoch))

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at a step."""
        done = step * self.epochs // steps
        return self.learning_rate * self.decay ** (done // self.decay_epochs)


def course_of(
    stage: Literal["clusterbook", "head", "probe"], settings: CauseSettings, seed: int
) -> Course:
    """Return the published training schedule of a stage, with the settings of a run."""
    course = Course(
        epochs=1,
        least_steps=settings.least_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=seed,
    )
    if stage == "clusterbook":
        return replace(course, decay=0.2, decay_epochs=1)
    if stage == "head":
        return replace(course, epochs=2, weight_decay=settings.weight_decay, clip=settings.clip)
    clip = settings.probe_clip
    return replace(
        course,
        epochs=5 if settings.head == "tr" else 1,
        decay=0.5,
        decay_epochs=2,
        weight_decay=settings.probe_weight_decay,
        clip=math.inf if clip is None else clip,
    )


class Stage(ABC):
    """A training stage: its modules, its losses, and what happens after a step.

    Attributes
    ----------
    name : str
    modules : dict of str to nn.Module
        All modules that a checkpoint must contain.
    trained : list of nn.Parameter
        The parameters that are optimised.
    """

    name: str
    modules: dict[str, nn.Module]
    trained: list[nn.Parameter]

    @abstractmethod
    def losses(
        self, tokens: Tensor, views: NDArray[np.intp], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the losses of a batch of tokens [B, T, D] by name; their sum is minimised."""

    def after_step(self, generator: torch.Generator) -> None:  # noqa: B027
        """Update anything that is updated after each step; does nothing by default."""

    def extra_state(self) -> dict[str, Tensor]:
        """Return the state that a checkpoint contains besides the modules."""
        return {}

    def restore_extra(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Restore the state returned by `extra_state`."""


def train(
    stage: Stage,
    tokens: Tokens,
    course: Course,
    checkpoint: Path,
    *,
    about: Mapping[str, Any],
    device: str,
    progress: bool = True,
) -> pd.DataFrame:
    """Train a stage, or resume an interrupted training.

    Parameters
    ----------
    stage : Stage
        Its modules must be on `device`.
    tokens : Tokens
    course : Course
    checkpoint : Path
        Written at the end of each epoch and every `CHECKPOINT_EVERY` steps, unless this would take
        more than `CHECKPOINT_SHARE` of the time. The caller deletes it when the result is written.
        A checkpoint that is damaged or belongs to other settings or data is ignored.
    about : mapping
        Everything that determines the result besides course and tokens, in JSON types.
    device : str
    progress : bool
        Whether to show a progress bar with the loss on standard error.

    Returns
    -------
    DataFrame
        A row for every step: ``step`` from 1, ``epoch`` from 1, and the losses.

    Raises
    ------
    LightClusterError
        If a loss or the gradient is not finite; the message names stage, step and views. The last
        checkpoint is kept.
    """
    steps = course.steps(tokens.count)
    epoch = course.steps_of_epoch(tokens.count)
    optimizer = torch.optim.Adam(
        stage.trained, lr=course.learning_rate, weight_decay=course.weight_decay
    )
    identity = json.dumps(
        {"stage": stage.name, "tokens": tokens.digest, **asdict(course), **about}, sort_keys=True
    )
    first, rows = _resume(checkpoint, stage, optimizer, identity)
    begin, spent = time.monotonic(), 0.0  # seconds spent on checkpoints
    bar = tqdm(
        total=steps, initial=first, unit="step", desc=stage.name, file=sys.stderr,
        disable=not progress, mininterval=0.5 if sys.stderr.isatty() else 15.0,
    )  # fmt: skip
    with bar:
        for step, views, batch in _batches(tokens, course, stage.name, first, steps, device):
            for group in optimizer.param_groups:
                group["lr"] = course.rate(step, steps)
            generator = torch.Generator().manual_seed(_seed(course.seed, stage.name, "step", step))
            torch.manual_seed(_seed(course.seed, stage.name, "dropout", step))
            losses = stage.losses(batch, views, generator)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(stage.trained, course.clip)
            found = {name: loss.item() for name, loss in losses.items()}
            if not all(map(math.isfinite, [*found.values(), norm.item()])):
                raise LightClusterError(_not_finite(stage, step, found, tokens, views, checkpoint))
            optimizer.step()
            stage.after_step(generator)
            rows.append({"step": step + 1, "epoch": step // epoch + 1, **found})
            bar.update()
            bar.set_postfix_str(f"loss {sum(found.values()):.4f}", refresh=False)
            ends = (step + 1) % epoch == 0 or (step + 1) % CHECKPOINT_EVERY == 0
            now = time.monotonic()
            may_take = CHECKPOINT_SLACK + CHECKPOINT_SHARE * (now - begin)
            if ends and step + 1 < steps and spent < may_take:
                _save(checkpoint, stage, optimizer, identity, step + 1, rows)
                spent += time.monotonic() - now
    return pd.DataFrame(rows)


def _not_finite(
    stage: Stage,
    step: int,
    losses: Mapping[str, float],
    tokens: Tokens,
    views: NDArray[np.intp],
    checkpoint: Path,
) -> str:
    """Return the error message for a loss or gradient that is not finite."""
    names = ", ".join(repr(tokens.names[view]) for view in views[:4].tolist())
    more = f" and {len(views) - 4} more" if len(views) > 4 else ""
    kept = f"; the last checkpoint is {checkpoint}" if checkpoint.exists() else ""
    return (
        f"{stage.name}, step {step + 1}: a loss or the gradient is not finite (losses: "
        f"{dict(losses)}); lower cause.learning_rate, or inspect the views of this batch: "
        f"{names}{more}{kept}"
    )


def views_of_step(count: int, course: Course, stage: str, step: int) -> NDArray[np.intp]:
    """Return the views of a step.

    Each view occurs once per epoch, except for the remainder that does not fill a batch.

    Parameters
    ----------
    count : int
        Number of views.
    course : Course
    stage : str
        Name of the stage.
    step : int
        From 0.

    Returns
    -------
    int array, shape (batch,)
    """
    epoch, place = divmod(step, course.steps_of_epoch(count))
    order = np.random.default_rng(_seed(course.seed, stage, "order", epoch)).permutation(count)
    return order[place * course.batch_size : (place + 1) * course.batch_size]


def _seed(seed: int, stage: str, purpose: str, number: int) -> int:
    """Return a separate seed for each purpose."""
    words = [seed, number, *f"{stage}/{purpose}".encode()]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _batches(
    tokens: Tokens, course: Course, stage: str, first: int, steps: int, device: str
) -> Iterator[tuple[int, NDArray[np.intp], Tensor]]:
    """Yield the steps from `first` on with their views and tokens, reading some ahead."""

    def read(step: int) -> tuple[int, NDArray[np.intp], Tensor]:
        views = views_of_step(tokens.count, course, stage, step)
        return step, views, tokens.read(views, device)

    yield from compute_ahead(read, range(first, steps), workers=READERS, most=2 * READERS)


def _save(
    path: Path,
    stage: Stage,
    optimizer: torch.optim.Optimizer,
    identity: str,
    step: int,
    rows: list[dict[str, float]],
) -> None:
    """Write a checkpoint."""
    tensors = training_state(stage.modules, optimizer)
    tensors |= {f"extra.{name}": tensor for name, tensor in stage.extra_state().items()}
    write_tensors(
        path, tensors, {"identity": identity, "step": str(step), "losses": json.dumps(rows)}
    )


def _resume(
    path: Path, stage: Stage, optimizer: torch.optim.Optimizer, identity: str
) -> tuple[int, list[dict[str, float]]]:
    """Load the checkpoint of this training, if any; return the number of steps and the losses."""
    if not path.exists():
        return 0, []
    try:
        tensors, about = read_tensors(path)
        step, rows = int(about["step"]), json.loads(about["losses"])
    except (StoreError, KeyError, ValueError) as error:
        log.warning("%s: cannot be used (%s); the training restarts", path, error)
        return 0, []
    if about.get("identity") != identity:
        log.warning("%s: belongs to other settings or data; the training restarts", path)
        return 0, []
    restore_training(tensors, stage.modules, optimizer)
    extra = {k.removeprefix("extra."): v for k, v in tensors.items() if k.startswith("extra.")}
    stage.restore_extra(extra)
    log.info("%s: resuming after step %d", path, step)
    return step, rows


def write_losses(path: Path, losses: pd.DataFrame) -> None:
    """Write the table of losses that `train` returns as CSV."""
    with replacing(path) as temporary:
        losses.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
