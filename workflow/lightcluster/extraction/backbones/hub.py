"""Files of a repository on the Hugging Face hub: found, downloaded and verified.

The hub's client continues a download if the connection is cut, and follows ``HF_ENDPOINT`` (a
mirror), ``HF_TOKEN`` (access), ``HF_HOME`` (the cache) and ``HF_HUB_OFFLINE``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lightcluster.errors import WeightsError, reason_of

_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights, where timm states no other."""

_SHA256 = re.compile("[0-9a-f]{64}")

PATIENCE = 5.0
"""Seconds to wait for a server's answer before a download."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Repository:
    """A repository with weights.

    Attributes
    ----------
    name : str
        Such as ``timm/vit_small_patch8_224.dino``.
    revision : str or None
        Commit, tag or branch; None: the newest commit.
    files : tuple of str
        Names under which it may hold the weights, the preferred one first.
    """

    name: str
    revision: str | None
    files: tuple[str, ...]

    @classmethod
    def of(cls, published: Mapping[str, Any], revision: str | None) -> Repository | None:
        """Return the repository that timm states for a model; None if it states none.

        Parameters
        ----------
        published : mapping
            What timm says of the weights: ``hf_hub_id`` and ``hf_hub_filename``.
        revision : str or None
            In place of the one that timm states, if it states any.
        """
        name, _, stated = (published["hf_hub_id"] or "").partition("@")
        if not name:
            return None
        named = published.get("hf_hub_filename")
        return cls(name, revision or stated or None, _names_like(named) if named else _FILES)

    @property
    def address(self) -> str:
        """Its page on the hub, or on the mirror that is used."""
        return f"{constants.ENDPOINT}/{self.name}"

    @property
    def cached(self) -> bool:
        """Whether the weights are in the cache on this machine."""
        return any(
            isinstance(try_to_load_from_cache(self.name, file, revision=self.revision), str)
            for file in self.files
        )


@dataclass(frozen=True)
class Download:
    """A file in the cache.

    Attributes
    ----------
    path : Path
    origin : str
        Repository, commit and name of the file, such as ``timm/vit@8f3c…/model.safetensors``.
    """

    path: Path
    origin: str


def find(repository: Repository) -> None:
    """See within seconds that the hub has the weights of a repository and grants access to them.

    Raises
    ------
    WeightsError
        As for `download`.
    """
    _first_of(
        repository,
        lambda name: get_hf_file_metadata(
            hf_hub_url(repository.name, name, revision=repository.revision), timeout=PATIENCE
        ),
    )


def download(repository: Repository, *, cache_only: bool) -> Download:
    """Return the weights of a repository, from the cache or the network, verified.

    Parameters
    ----------
    repository : Repository
    cache_only : bool
        Do not ask the hub whether it has a newer commit.

    Returns
    -------
    Download

    Raises
    ------
    WeightsError
        If they are missing, access to them is denied, the download breaks off, or their SHA-256 is
        not the one that the hub states.
    """
    name, found = _first_of(
        repository,
        lambda name: hf_hub_download(
            repository.name, name, revision=repository.revision, local_files_only=cache_only
        ),
        (LocalEntryNotFoundError,) if cache_only else (),
    )
    path = Path(found)
    _verify(path)
    commit = path.parents[name.count("/")].name
    return Download(path, f"{repository.name}@{commit}/{name}")


def _first_of(
    repository: Repository,
    ask: Callable[[str], Answer],
    absent: tuple[type[Exception], ...] = (),
) -> tuple[str, Answer]:
    """Return the first file that the repository has, and what the client says of it.

    Parameters
    ----------
    repository : Repository
    ask : callable
        From the name of a file to the client's answer.
    absent : tuple of exceptions
        What else means that there is no such file.

    Raises
    ------
    WeightsError
        If it has none of them, or the client fails.
    """
    gone: tuple[type[Exception], ...] = (RemoteEntryNotFoundError, *absent)
    for name in repository.files:
        try:
            return name, ask(name)
        except gone:
            continue
        except Exception as error:  # the client passes on all errors of its transport
            raise WeightsError(_explain(repository, error)) from error
    names = " or ".join(repository.files)
    raise WeightsError(f"backbone.weights: {repository.address}: has no file {names}")


def _names_like(named: str) -> tuple[str, ...]:
    """Return the name of a file, after that of a safetensors file with the same weights."""
    stem, _, suffix = named.rpartition(".")
    if suffix == "safetensors":
        return (named,)
    return (f"{stem.replace('pytorch_model', 'model')}.safetensors", named)


def _explain(repository: Repository, error: Exception) -> str:
    """Return a message that says why a download failed and what can be done."""
    said = f"backbone.weights: {repository.address}"
    match error:
        case GatedRepoError():
            return (
                f"{said}: access must be granted. Open the page in a browser, log in and accept "
                "the conditions; then run `hf auth login` here, or set HF_TOKEN to your token"
            )
        case RepositoryNotFoundError():
            return (
                f"{said}: there is no such repository, or it is private; for a private one, run "
                "`hf auth login`, or set HF_TOKEN to your token"
            )
        case RevisionNotFoundError():
            return f"{said}: has no commit, tag or branch {repository.revision!r}"
    return (
        f"{said}: could not be downloaded ({reason_of(error)}). Run again, or download "
        "the file on a machine with a network, copy it here and set "
        "`backbone.weights: path/to/file.safetensors`"
    )


def _verify(path: Path) -> None:
    """Compare the SHA-256 of a file with the one that the hub stated, which the cache names it by.

    Small files, and files where the cache has no links, have none.
    """
    stored = path.resolve()
    if not _SHA256.fullmatch(stored.name):
        return
    with stored.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != stored.name:
        raise WeightsError(
            f"{stored}: is damaged (SHA-256 {found[:12]}… instead of {stored.name[:12]}…); delete "
            "it and run again"
        )
