"""The training loop of CAUSE's three stages: resumable, and the same from the same seed.

All that is random in a step is drawn from (seed, stage, step), and the order of the views from
(seed, stage, epoch). A checkpoint needs no state of a random generator, and a training that was
killed and resumed ends with the weights of one that was not (on a CPU with the same threads).
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
"""Steps after which a checkpoint is written where an epoch is longer than that."""

CHECKPOINT_SHARE, CHECKPOINT_SLACK = 0.1, 1.0
"""Checkpoints may take this share of the time, and so many seconds: where epochs are short and the
bank is large, not every one ends with a checkpoint."""

READERS = 4
"""Threads that read batches ahead."""


@dataclass(frozen=True)
class Course:
    """How long and how fast a stage is trained.

    Attributes
    ----------
    epochs : int
        Passes over the views at least.
    least_steps : int
        Steps at least: where the views are few, there are more epochs.
    batch_size : int
    learning_rate : float
        Of Adam, at the start.
    decay : float
        What the rate is multiplied by …
    decay_epochs : int
        … after so many of `epochs`; where there are more epochs, after the same share of them.
    weight_decay : float
        L2, of Adam.
    clip : float
        Norm to which the gradient is clipped.
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
        """Return the number of whole batches of so many views; a smaller set is one batch."""
        return max(1, views // self.batch_size)

    def steps(self, views: int) -> int:
        """Return the number of steps for so many views: whole epochs."""
        epoch = self.steps_of_epoch(views)
        return epoch * max(self.epochs, math.ceil(self.least_steps / epoch))

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step."""
        done = step * self.epochs // steps
        return self.learning_rate * self.decay ** (done // self.decay_epochs)


def course_of(
    stage: Literal["clusterbook", "head", "probe"], settings: CauseSettings, seed: int
) -> Course:
    """Return the course of a stage, as published, from the settings of its step."""
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
    """What is trained: its modules, its loss, and what happens after a step.

    Attributes
    ----------
    name : str
    modules : dict of str to nn.Module
        All that a resumed training needs.
    trained : list of nn.Parameter
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
        """Do what is done after each step, if there is anything."""

    def extra_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds beside the modules."""
        return {}

    def restore_extra(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Put it back, if there is anything."""


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
    """Train a stage, or go on where a killed training stopped.

    Parameters
    ----------
    stage : Stage
        Its modules are on `device`.
    tokens : Tokens
    course : Course
    checkpoint : Path
        Written at the end of each epoch, and every `CHECKPOINT_EVERY` steps, unless that would take
        more than `CHECKPOINT_SHARE` of the time; deleted by the caller once the result is written.
        One of other settings or data, and a damaged one, is not used.
    about : mapping
        What decides the result beside course and tokens, in JSON types.
    device : str
    progress : bool
        Whether to draw a bar, with loss and time left, on standard error.

    Returns
    -------
    DataFrame
        A row for every step: ``step`` from 1, ``epoch`` from 1, and the losses.

    Raises
    ------
    LightClusterError
        If a loss or the gradient is no finite number: names the stage, the step and the views. The
        last checkpoint stays.
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
    begin, spent = time.monotonic(), 0.0  # of which on checkpoints
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
    """Return the message of a loss or gradient that is no finite number."""
    names = ", ".join(repr(tokens.names[view]) for view in views[:4].tolist())
    more = f" and {len(views) - 4} more" if len(views) > 4 else ""
    kept = f"; the last checkpoint is {checkpoint}" if checkpoint.exists() else ""
    return (
        f"{stage.name}, step {step + 1}: the losses are {dict(losses)}, and these or their "
        "gradient are no finite numbers; lower cause.learning_rate, or look at the views of this "
        f"batch, {names}{more}{kept}"
    )


def views_of_step(count: int, course: Course, stage: str, step: int) -> NDArray[np.intp]:
    """Return the views of a step: each once in an epoch, but for a rest smaller than a batch."""
    epoch, place = divmod(step, course.steps_of_epoch(count))
    order = np.random.default_rng(_seed(course.seed, stage, "order", epoch)).permutation(count)
    return order[place * course.batch_size : (place + 1) * course.batch_size]


def _seed(seed: int, stage: str, purpose: str, number: int) -> int:
    """Return a seed of its own for each purpose."""
    words = [seed, number, *f"{stage}/{purpose}".encode()]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _batches(
    tokens: Tokens, course: Course, stage: str, first: int, steps: int, device: str
) -> Iterator[tuple[int, NDArray[np.intp], Tensor]]:
    """Yield the steps from `first` on with their views and tokens, some read ahead."""

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
    """Write all that a resumed training needs."""
    tensors = training_state(stage.modules, optimizer)
    tensors |= {f"extra.{name}": tensor for name, tensor in stage.extra_state().items()}
    write_tensors(
        path, tensors, {"identity": identity, "step": str(step), "losses": json.dumps(rows)}
    )


def _resume(
    path: Path, stage: Stage, optimizer: torch.optim.Optimizer, identity: str
) -> tuple[int, list[dict[str, float]]]:
    """Load a checkpoint, if there is one of this training; return the steps done, and losses."""
    if not path.exists():
        return 0, []
    try:
        tensors, about = read_tensors(path)
        step, rows = int(about["step"]), json.loads(about["losses"])
    except (StoreError, KeyError, ValueError) as error:
        log.warning("%s: cannot be used (%s); the training starts again", path, error)
        return 0, []
    if about.get("identity") != identity:
        log.warning("%s: of other settings or data; the training starts again", path)
        return 0, []
    restore_training(tensors, stage.modules, optimizer)
    extra = {k.removeprefix("extra."): v for k, v in tensors.items() if k.startswith("extra.")}
    stage.restore_extra(extra)
    log.info("%s: goes on after step %d", path, step)
    return step, rows


def write_losses(path: Path, losses: pd.DataFrame) -> None:
    """Write the table that `train` returned."""
    with replacing(path) as temporary:
        losses.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
