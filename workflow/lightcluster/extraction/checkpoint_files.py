"""Checkpoints from anywhere: what kind of file it is, and whether it holds plain numbers.

No code in a file is run, and what is no checkpoint is refused by what it is.
"""

from __future__ import annotations

import argparse
import pickle
import re
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from lightcluster.errors import WeightsError
from lightcluster.extraction.picking import Picked, pick_network


def read_checkpoint(path: Path) -> Picked:
    """The network in a safetensors file or torch checkpoint.

    Parameters
    ----------
    path : Path
        Safetensors, told by its content; anything else is read as a torch checkpoint, in which
        only tensors, plain containers and the options that training scripts leave behind are
        allowed.

    Returns
    -------
    Picked
        By the names in the file; see `layouts.pick_network`.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, of another kind, holds code or holds no network.
    """
    if reason := _foreign_file(path):
        raise WeightsError(f"{path}: {reason}")
    try:
        if path.suffix == ".safetensors" or _is_safetensors(path):
            contents: Any = safetensors.torch.load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):
                contents = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: refused, because it is no torch checkpoint or holds Python objects besides "
            "tensors, which could run code on loading; save its state_dict() alone, or convert "
            "it to safetensors where you trust it"
        ) from error
    except Exception as error:  # the readers raise whatever a damaged file leads them to
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        if len(cause) > 160 or not re.search("[a-z]", cause):  # advice for programmers; a number
            cause = type(error).__name__
        raise WeightsError(
            f"{path}: cannot be read as weights; it is damaged, or neither a safetensors file nor "
            f"a torch checkpoint ({cause})"
        ) from error
    return pick_network(contents, path)


_PART = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.\w+$")
_MAGIC = {
    b"\x89HDF": "is a file of HDF5 (Keras)",
    b"GGUF": "is a quantised file of GGUF",
    b"{": "is JSON, and holds no tensors",
    b"version https://git-lfs": "is a pointer of Git LFS; get the file itself with `git lfs pull`",
}
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_ADVICE = "give a safetensors file or a torch checkpoint"


def _foreign_file(path: Path) -> str | None:
    """Return what a file is that is no checkpoint, with what to do; None if nothing says so."""
    try:
        mode = path.stat().st_mode
    except OSError as error:  # a name that is too long, too
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "is a folder; give the file in it, such as model.safetensors"
    if not stat.S_ISREG(mode):
        return "is no file; a pipe or device cannot be read again"
    in_parts = "of a network saved in parts; save it as one file (`max_shard_size='100GB'`)"
    if path.name.endswith(".index.json"):
        return f"is the index {in_parts}"
    if _PART.search(path.name):
        return f"is one part {in_parts}"
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith(".npy") for name in names):
            return f"is an archive of NumPy (JAX); {_ADVICE}"
        if any(PurePosixPath(name).name == "constants.pkl" for name in names):
            return "is a program of TorchScript; save the state_dict() of its network"
    if _is_safetensors(path):
        return None
    if start[257:262] == b"ustar" or start.startswith(_COMPRESSED):
        return "is an archive, or compressed; unpack it, and give the file of weights in it"
    found = next((what for magic, what in _MAGIC.items() if start.startswith(magic)), None)
    return f"{found}; {_ADVICE}" if found else None


def _is_safetensors(path: Path) -> bool:
    """Tell whether a file begins as safetensors do: the length of a header, and the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def plain_tensors(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return tensors after a look at their kind, which no later step would question.

    Raises
    ------
    WeightsError
        If one that belongs to a network holds no plain floating-point numbers.
    """
    for name, tensor in tensors.items():
        if name.endswith(("relative_position_index", "num_batches_tracked", "position_ids")):
            continue
        kind = str(tensor.dtype).removeprefix("torch.")
        if tensor.is_quantized or kind.startswith(("int", "uint", "qint", "quint", "float8")):
            raise WeightsError(
                f"{path}: {name} holds {kind}, as quantised weights do; save the network in "
                "float32, float16 or bfloat16"
            )
        if not tensor.is_floating_point():
            raise WeightsError(f"{path}: {name} holds {kind}; weights are floating-point numbers")
        if tensor.layout != torch.strided or tensor.is_meta:
            raise WeightsError(f"{path}: {name} is sparse or without values")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {name} claims more numbers than the file holds")
    return tensors
