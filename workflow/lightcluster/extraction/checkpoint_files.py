"""Reading checkpoints of any origin: recognising the file type, and checking the tensors.

No code in a file is executed. Other kinds of files are rejected with a message that names the kind.
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
    """Read the network in a safetensors file or torch checkpoint.

    Parameters
    ----------
    path : Path
        Safetensors files are recognised by their content. Any other file is read as a torch
        checkpoint, which may contain only tensors, plain containers and an argparse namespace of
        training options.

    Returns
    -------
    Picked
        With the parameter names of the file; see `picking.pick_network`.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, of another kind, contains code or contains no network.
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
            f"{path}: not loaded, because it is not a torch checkpoint or contains Python objects "
            "other than tensors, which could execute code when loaded; save only its "
            "state_dict(), or convert it to safetensors on a machine where you trust it"
        ) from error
    except Exception as error:  # damaged files make the readers raise all kinds of errors
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        if len(cause) > 160 or not re.search("[a-z]", cause):  # not meant for users
            cause = type(error).__name__
        raise WeightsError(
            f"{path}: cannot be read as weights; it is damaged, or neither a safetensors file nor "
            f"a torch checkpoint ({cause})"
        ) from error
    return pick_network(contents, path)


_PART = re.compile(r"-\d{5}-of-(?!00001)\d{5}\.\w+$")
_MAGIC = {
    b"\x89HDF": "is an HDF5 file (Keras)",
    b"GGUF": "is a quantised GGUF file",
    b"{": "is a JSON file without tensors",
    b"version https://git-lfs": "is a Git LFS pointer; download the file with `git lfs pull`",
}
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_ADVICE = "use a safetensors file or a torch checkpoint"


def _foreign_file(path: Path) -> str | None:
    """Return why a file is not a checkpoint, with advice; None if nothing suggests this."""
    try:
        mode = path.stat().st_mode
    except OSError as error:  # including names that are too long
        return f"cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return "is a folder; give the file in it, such as model.safetensors"
    if not stat.S_ISREG(mode):
        return "is not a regular file; pipes and devices cannot be read twice"
    in_parts = "of a sharded checkpoint; save it as a single file (`max_shard_size='100GB'`)"
    if path.name.endswith(".index.json"):
        return f"is the index {in_parts}"
    if _PART.search(path.name):
        return f"is one shard {in_parts}"
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith(".npy") for name in names):
            return f"is a NumPy archive (JAX); {_ADVICE}"
        if any(PurePosixPath(name).name == "constants.pkl" for name in names):
            return "is a TorchScript program; save the state_dict() of its network"
    if _is_safetensors(path):
        return None
    if start[257:262] == b"ustar" or start.startswith(_COMPRESSED):
        return "is an archive or compressed; unpack it, and use the weights file in it"
    found = next((what for magic, what in _MAGIC.items() if start.startswith(magic)), None)
    return f"{found}; {_ADVICE}" if found else None


def _is_safetensors(path: Path) -> bool:
    """Return whether a file starts like safetensors: the length of a header, then the header."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < 2**32


def plain_tensors(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Check that the parameters of a network are plain floating-point tensors.

    Parameters
    ----------
    tensors : dict of str to Tensor
    path : Path
        The file, for messages.

    Returns
    -------
    dict of str to Tensor
        `tensors`.

    Raises
    ------
    WeightsError
        If a parameter is quantised, sparse, without values or not floating-point.
    """
    for name, tensor in tensors.items():
        if name.endswith(("relative_position_index", "num_batches_tracked", "position_ids")):
            continue
        kind = str(tensor.dtype).removeprefix("torch.")
        if tensor.is_quantized or kind.startswith(("int", "uint", "qint", "quint", "float8")):
            raise WeightsError(
                f"{path}: {name} is {kind}, so the weights are quantised; save the "
                "network in float32, float16 or bfloat16"
            )
        if not tensor.is_floating_point():
            raise WeightsError(f"{path}: {name} is {kind}; weights must be floating-point")
        if tensor.layout != torch.strided or tensor.is_meta:
            raise WeightsError(f"{path}: {name} is sparse or without values")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise WeightsError(f"{path}: {name} has more elements than the file stores")
    return tensors
