"""Models from elsewhere: every field of every file damaged, and one sentence for each."""

from __future__ import annotations

import io
import json
import re
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from test_model import CONFIG, export

from lightcluster.errors import LightClusterError, ModelError, WeightsError
from lightcluster.extraction.opening import load_backbone
from lightcluster.files import encode_names, write_arrays
from lightcluster.methods.cause.adoption import ABOUT, PALETTE, adopt_probe, check_probe, probe_of
from lightcluster.methods.cause.heads import FEATURES, build_head
from lightcluster.model.adoption import adopt_fit
from lightcluster.model.folder import file_digest, open_model
from lightcluster.model.segmentation import segment
from lightcluster.regions.palette import write_palette
from lightcluster.soundness import declared_arrays

JARGON = re.compile(r"(?i:input|pydantic|dictionary|instance of|traceback)|<class")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("sound"), CONFIG)


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "model")
    return tmp_path / "model"


def describe_anew(folder: Path) -> None:
    """Let the description name the files as they are, as whoever made them would."""
    path = folder / "model.json"
    raw = json.loads(path.read_text())
    raw["files"] = {name: file_digest(folder / name) for name in raw["files"]}
    path.write_text(json.dumps(raw))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        open_model(folder)
    message = str(error.value)
    assert message.startswith(str(folder))
    assert "\n" not in message
    assert len(message) < 600
    assert not JARGON.search(message.replace(str(folder), "")), message
    return message.replace(f"{folder}/", "")


def reason(folder: Path) -> str | None:
    """Return why a model is refused; None if it is not."""
    try:
        open_model(folder)
    except LightClusterError as error:
        return str(error)
    return None


def test_a_sound_model_is_opened(folder: Path) -> None:
    assert open_model(folder).classes == 4
    describe_anew(folder)
    assert open_model(folder).seeds == (7, 8)


# ---- arrays ----------------------------------------------------------------------------------

ARRAY_FILES = (
    "dataset.npz", "superclasses.npz", "category.npz", "foreground.npz", "trees.npz",
    "labelling/seed-7.npz", "labelling/seed-8.npz",
)  # fmt: skip


def damaged(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield an array with everything about it wrong, one thing at a time."""
    yield (
        "float64" if array.dtype != np.float64 else "float32",
        array.astype(np.float64 if array.dtype != np.float64 else np.float32),
    )
    yield "int64", array.astype(np.int64)
    yield "longer", np.concatenate([array, array])
    yield "shorter", array[:-1]
    yield "empty", array[:0]
    yield "one more axis", array[None]
    yield "flat", array.ravel() if array.ndim > 1 else array.reshape(-1, 1)
    yield "a number", np.asarray(array.ravel()[0])
    yield "text", np.array(["a", "b"])
    if array.ndim > 1:
        yield "wider", np.concatenate([array, array], axis=-1)
    if len(set(array.shape)) > 1:
        yield "transposed", np.ascontiguousarray(np.moveaxis(array, 0, -1))
    if array.dtype.kind == "f":
        for value in (np.nan, np.inf, -np.inf):
            wrong = array.copy()
            wrong.ravel()[-1] = value
            yield str(value), wrong


@pytest.mark.parametrize("name", ARRAY_FILES)
def test_every_array_with_anything_wrong_is_refused(folder: Path, name: str) -> None:
    with np.load(folder / name) as file:
        arrays = dict(file)
    for key, array in arrays.items():
        for what, wrong in damaged(array):
            if name == "superclasses.npz":
                continue  # compared with `category`, below
            if np.array_equal(wrong, array) and wrong.dtype == array.dtype:
                continue  # transposed, and still the same
            write_arrays(folder / name, **{**arrays, key: wrong})
            describe_anew(folder)
            message = refusal(folder)
            assert message.startswith(name), (key, what, message)
            assert f"`{key}`" in message, (key, what, message)
        write_arrays(folder / name, **{k: v for k, v in arrays.items() if k != key}, other=array)
        describe_anew(folder)
        assert "it must hold" in refusal(folder)
    write_arrays(folder / name, **arrays, more=np.zeros(3))
    describe_anew(folder)
    assert "it must hold" in refusal(folder)
    write_arrays(folder / name, **arrays)
    describe_anew(folder)
    open_model(folder)


def test_superclasses_are_as_many_as_the_levels_below_them(folder: Path) -> None:
    with np.load(folder / "superclasses.npz") as file:
        centroids = file["centroids"]
    for _, wrong in damaged(centroids):
        write_arrays(folder / "superclasses.npz", centroids=wrong)
        describe_anew(folder)
        assert refusal(folder).startswith(("superclasses.npz", "category.npz", "foreground.npz"))


def test_regions_are_described_by_what_the_description_says(folder: Path) -> None:
    path = folder / "labelling" / "seed-7.npz"
    with np.load(path) as file:
        arrays = dict(file)
    for names in (["key", "cls"], ["cls", "cls"], ["cls", "kex"]):
        write_arrays(path, **{**arrays, "features": encode_names(names)})
        describe_anew(folder)
        assert f"describes regions by {', '.join(names)}, not by cls, key" in refusal(folder)
    write_arrays(path, **{**arrays, "features": np.full(len(arrays["features"]), 255, np.uint8)})
    describe_anew(folder)
    assert refusal(folder).startswith("labelling/seed-7.npz")


def header(shape: str, kind: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file,
        {"descr": kind, "fortran_order": False, "shape": eval(shape)},
    )
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header("(1500000000,)") + bytes(10_000), "claims 6,000,000,128 bytes, and the file"),
        (header("(2, 64)"), "claims"),
        (header("(2, 64)", "|O") + bytes(1024), "holds Python objects"),
        (header("(0, 6000000000)"), "is float32 [0, 6000000000]"),
        (header(f"({2**62}, {2**62})"), "claims"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "damaged"),
        (b"\x93NUMPY\x01\x00\xff\xff{'descr': ", "damaged"),
        (b"no array", "damaged"),
        (b"", "damaged"),
    ],
)
def test_headers_that_lie_are_seen_before_a_number_is_read(
    folder: Path, content: bytes, message: str
) -> None:
    with zipfile.ZipFile(folder / "dataset.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("centroids.npy", content)
        archive.writestr("distance.npy", header("(1,)", "<f8") + bytes(8))
    describe_anew(folder)
    assert message in refusal(folder)


def test_six_gigabytes_of_zeros_are_refused_unread(folder: Path, monkeypatch) -> None:
    """An honest header, and a file that is small only as long as nobody reads it."""
    start, count = header("(1500000000,)"), 1_500_000_000
    with (
        zipfile.ZipFile(folder / "dataset.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("centroids.npy", "w", force_zip64=True) as file,
    ):
        file.write(start + bytes(1000))
    raw = (folder / "dataset.npz").read_bytes()
    with zipfile.ZipFile(folder / "dataset.npz") as archive:
        size = archive.infolist()[0].file_size
    claimed = len(start) + 4 * count
    patched = raw.replace(size.to_bytes(4, "little"), (claimed % 2**32).to_bytes(4, "little"))
    (folder / "dataset.npz").write_bytes(patched)
    describe_anew(folder)
    monkeypatch.setattr("lightcluster.soundness.read_arrays", lambda *_: pytest.fail("was read"))
    assert refusal(folder).startswith("dataset.npz")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["dataset.npz", "labelling/seed-7.npz"])
def test_files_cut_short_or_with_a_changed_byte_are_refused(
    folder: Path, name: str, share: float
) -> None:
    content = (folder / name).read_bytes()
    place = int(share * len(content))
    flipped = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
    for wrong in (content[:place], flipped, content + content, b"", bytes(1000)):
        (folder / name).write_bytes(wrong)
        describe_anew(folder)
        if (message := reason(folder)) is not None:
            assert "\n" not in message
        else:  # of a byte that means nothing, all arrays are the same
            (folder / name).with_suffix(".kept").write_bytes(content)
            with np.load(folder / name) as found, np.load(io.BytesIO(content)) as kept:
                assert all(np.array_equal(found[key], kept[key]) for key in kept)


def test_names_of_any_number_and_content_are_told_in_a_line(folder: Path) -> None:
    with zipfile.ZipFile(folder / "dataset.npz", "a") as archive:
        for number in range(1000):
            archive.writestr(f"a{number}\n\x1b[31m.npy", header("(1,)") + bytes(4))
    describe_anew(folder)
    assert r"holds the arrays 'a0\n\x1b[31m', " in (message := refusal(folder))
    assert "and 997 more; it must hold centroids, distance" in message


def test_what_stands_before_the_arrays_is_not_taken_for_a_pickle(folder: Path) -> None:
    path = folder / "dataset.npz"
    path.write_bytes(b"x" * 100 + path.read_bytes())
    describe_anew(folder)
    assert "something stands before its arrays" in refusal(folder)


def test_a_long_header_is_not_read(folder: Path) -> None:
    """A deflated header of 64 MiB takes 64 KiB in the file, and no more in memory."""
    start = b"\x93NUMPY\x02\x00" + (2**26).to_bytes(4, "little")
    with zipfile.ZipFile(folder / "dataset.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("centroids.npy", start + b" " * 2**26)
    describe_anew(folder)
    tracemalloc.start()
    assert "damaged" in refusal(folder)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_entries_that_are_no_arrays_are_named(tmp_path: Path) -> None:
    for entry in ("../../evil.npy", "a", "a/b"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr(entry, header("(1,)") + bytes(4))
        if entry.endswith(".npy"):
            assert declared_arrays(tmp_path / "a.npz") == {"../../evil": ("float32", (1,))}
        else:
            with pytest.raises(ModelError, match="that is no array"):
                declared_arrays(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


# ---- the description -------------------------------------------------------------------------


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*place, key))


def changed(raw: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    copy = dict(raw)
    copy[place[0]] = changed(raw[place[0]], place[1:], value)
    return copy


def test_every_field_of_the_description_with_anything_wrong(folder: Path) -> None:
    """Refused in one sentence, or the very model, but for names of what it was fitted on."""
    path = folder / "model.json"
    raw = json.loads(path.read_text())
    values = ("x" * 100_000, -1, 10**30, 1.5, [], {}, [[1]], {"../x": 1}, True, None, "../../etc")
    refused = kept = 0
    for place in leaves(raw):
        if place[:1] == ("config",) and place[1:2] not in (
            ("clustering",),
            ("labelling",),
            ("backbone",),
        ):
            continue
        for value in values:
            path.write_text(json.dumps(changed(raw, place, value)))
            message = reason(folder)
            if message is not None:
                refused += 1
                assert "\n" not in message
                assert len(message) < 800
                assert not JARGON.search(message.replace(str(folder), "")), (place, value)
            else:
                kept += 1
                model = open_model(folder)
                assert model.seeds == (7, 8)
                assert model.classes == 4
                assert set(model.files) == set(raw["files"])
    assert refused > 5 * kept


def without(raw: dict, *place: str) -> dict:
    """Return a description that lacks what is at a place."""
    first, *rest = place
    if rest:
        return raw | {first: without(raw[first], *rest)}
    return {key: value for key, value in raw.items() if key != first}


def test_what_is_left_out_of_a_description_is_missed_and_no_default_takes_its_place(folder: Path):
    path = folder / "model.json"
    raw = json.loads(path.read_text())
    for place, said in (
        (["config"], "config: is missing"),
        (["steps"], "steps: is missing; it must be a group of names with their values"),
        (["classes"], "classes: is missing; it must be a whole number from 1 to 10000"),
        (["config", "features"], "config.features.facet: is missing, and with its default"),
        (["config", "refinement", "clip"], "config.refinement.clip: is missing"),
        (["config", "dataset"], "config.dataset.max_pixels: is missing"),
        (["config", "method"], "config.method: is missing"),
    ):
        path.write_text(json.dumps(without(raw, *place)))
        message = reason(folder)
        assert message is not None
        assert message.startswith(f"{path}: {said}")
    path.write_text(json.dumps(raw | {"config": None}))
    assert "config.dataset.max_pixels: is missing" in (reason(folder) or "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": []}, "seeds = []: must be a list of one or more whole numbers"),
        ({"seeds": [7, 7]}, "seeds = [7, 7]: 7 is given more than once"),
        ({"seeds": [7]}, "files: 'labelling/seed-8"),
        ({"seeds": [-1]}, "-1 is not allowed"),
        ({"classes": 5}, "labelling/seed-7.npz: `centroids` is float32 [4, 32]"),
        ({"classes": 10**9}, "classes = 1000000000: must be a whole number from 1 to 10000"),
        ({"layer": 6}, "layer = 6: its backbone has 6 blocks"),
        ({"facet": "colour"}, "facet = 'colour': must be `key`, `query`, `value` or `token`"),
        ({"run": "../../x"}, "run = '../../x': must be a name"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "files: '../../etc/passwd'"),
        ({"config": {"method": "kmeans"}}, "config.method = 'kmeans': such runs have no model"),
        ({"config": {"clustering": {"k_dataset": 3}}}, "`centroids` is float32 [2, 64]"),
        ({"config": {"labelling": {"pca": 16}}}, "`components` is float32 [128, 32]"),
        ({"config": {"labelling": {"classes": 9}}}, "config.labelling.classes = 9: contradicts 4"),
        ({"config": {"backbone": {"model": "vit_tiny_patch16_224"}}}, "weights.json: model = "),
    ],
)  # fmt: skip
def test_contradictions_are_named(folder: Path, changes: dict, message: str) -> None:
    path = folder / "model.json"
    raw = json.loads(path.read_text())
    if "config" in changes:
        for section, keys in changes["config"].items():
            own = raw["config"][section]
            raw["config"][section] = {**own, **keys} if isinstance(keys, dict) else keys
        if changes["config"].get("labelling") is None:
            raw["config"]["labelling"]["seeds"] = [7, 8]
    else:
        raw |= changes
        if "seeds" in changes:
            raw["config"]["labelling"].pop("seeds")
            raw["config"]["labelling"]["seeds"] = changes["seeds"] or [7, 8]
    path.write_text(json.dumps(raw))
    assert message in refusal(folder)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"3", b"\xff\xfe", b"[" * 50_000, b'{"a": 1, "a": 2}', b"x" * 2**21]
)
def test_descriptions_that_are_none(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    refusal(folder)


# ---- tables, weights and their record --------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text.replace("id,name", "number,title"),
        lambda text: text.replace("\n1,", "\n9,"),
        lambda text: text.replace("\n2,", "\n1,"),
        lambda text: text + "5,more,#ffffff,1\n",
        lambda text: "".join(text.splitlines(keepends=True)[:-1]),
        lambda text: text.replace("#", "rgb"),
        lambda text: text.replace("cluster 1", ""),
        lambda text: text.replace("cluster 1", '"cluster'),
        lambda text: text + "\0" * 10,
        lambda text: "x" * 2**25,
    ],
)
def test_tables_of_other_classes_are_refused(folder: Path, change: Callable[[str], str]) -> None:
    path = folder / "labelling" / "seed-8.csv"
    path.write_text(change(path.read_text()))
    describe_anew(folder)
    assert refusal(folder).startswith("labelling/seed-8.csv: ")


@pytest.mark.parametrize("name", ["model", "sha256", "dim", "depth", "patch_size", "mean", "std"])
def test_records_that_contradict_the_weights_are_refused(folder: Path, name: str) -> None:
    path = folder / "weights.json"
    raw = json.loads(path.read_text())
    for value in (None, "x", 3, [0, 0, 0], [1, 2], [True] * 3, {}, float("nan")):
        if name == "mean" and value == [0, 0, 0]:
            continue
        path.write_text(json.dumps({**raw, name: value}))
        describe_anew(folder)
        assert refusal(folder).startswith(f"weights.json: {name} = ")
    path.write_text("[]")
    describe_anew(folder)
    assert "not a record of weights" in refusal(folder)


def test_weights_of_another_size_than_the_arrays_are_refused(folder: Path) -> None:
    state = {"patch_embed.proj.weight": np.zeros((32, 3, 16, 16), np.float32)}
    state |= {f"blocks.{number}.norm1.bias": np.zeros(32, np.float32) for number in range(6)}
    (folder / "weights.safetensors").unlink()  # which has a second name elsewhere
    safetensors.numpy.save_file(state, folder / "weights.safetensors")
    describe_anew(folder)
    raw = json.loads((folder / "weights.json").read_text())
    raw["sha256"] = file_digest(folder / "weights.safetensors")
    (folder / "weights.json").write_text(json.dumps(raw))
    describe_anew(folder)
    assert "weights.json: dim = 64, which is 32 by the model's other files" in refusal(folder)


def seal(folder: Path) -> None:
    """Let the record and the description name the weights as they are."""
    record = folder / "weights.json"
    raw = json.loads(record.read_text())
    record.write_text(json.dumps(raw | {"sha256": file_digest(folder / "weights.safetensors")}))
    describe_anew(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.0.mlp.fc1.weight"), "lacks blocks.0.mlp.fc1.weight, by"),
        (lambda state: state.update({"a\nb": np.zeros(3, "f4")}), r"holds 'a\nb', by which"),
        (lambda state: state.update({"z" * 999: np.zeros(3, "f4")}), "holds zzz"),
        (lambda state: state.update(cls_token=np.zeros((1, 2, 64), "f4")), "cls_token is F32"),
        (lambda state: state["norm.bias"].fill(np.nan), "norm.bias holds numbers that are not"),
        (lambda state: state["norm.bias"].fill(np.inf), "norm.bias holds numbers that are not"),
        *(
            (lambda state, kind=kind: state.update({k: v.astype(kind) for k, v in state.items()}),
             f"cls_token is {name} ")
            for kind, name in (("f2", "F16"), ("f8", "F64"), ("i4", "I32"), ("c8", "C64"))
        ),
    ],
)  # fmt: skip
def test_weights_that_are_not_the_networks_are_refused_before_an_image_is_opened(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = folder / "weights.safetensors"
    state = safetensors.numpy.load_file(path)
    change(state)
    path.unlink()  # which has a second name elsewhere
    safetensors.numpy.save_file(state, path)
    seal(folder)
    with pytest.raises(ModelError) as error:
        segment([tmp_path / "not there.png"], folder, tmp_path / "out")
    text = str(error.value)
    assert text.startswith(f"{path}: {message}")
    assert "\n" not in text
    assert len(text) < 600
    if "that are not" not in message:
        with pytest.raises(WeightsError) as late:
            load_backbone("test_vit", path)
        assert str(late.value) == text


def test_files_too_large_for_their_kind_are_refused_unread(folder: Path) -> None:
    for name in ("dataset.npz", "weights.json", "labelling/seed-8.csv", "weights.safetensors"):
        (folder / name).rename(folder / "kept")
        with (folder / name).open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(ModelError, match=rf"{name}: is of 1,099,511,627,776 bytes, too large"):
            open_model(folder)
        (folder / "kept").replace(folder / name)


def test_nothing_is_adopted_from_an_unsound_model(folder: Path, tmp_path: Path) -> None:
    write_arrays(
        folder / "dataset.npz",
        centroids=np.full((2, 64), np.nan, np.float32), distance=np.full(1, 0.5),
    )  # fmt: skip
    describe_anew(folder)
    with pytest.raises(ModelError, match="not finite"):
        adopt_fit(folder, folder / "weights.safetensors", [tmp_path / "dataset.npz"])
    assert not (tmp_path / "dataset.npz").exists()


# ---- heads of CAUSE --------------------------------------------------------------------------


def write_probe(place: Path, head: str = "tr", dim: int = 16, tokens: int = 9) -> Path:
    path = probe_of(place, 0)
    path.parent.mkdir(parents=True)
    state = {f"head.{n}": t for n, t in build_head(head, dim, tokens).state_dict().items()}
    tensors = {**state, "codes": torch.randn(5, dim), "probe": torch.randn(4, FEATURES)}
    about = {"head": head, "framing": "crop", "size": 24, "weights": "a", "mean": [0.5, 0.5, 0.5],
             "std": [0.2, 0.2, 0.2], "images": "mine", "supervised": False}  # fmt: skip
    safetensors.torch.save_file(tensors, path, {ABOUT: json.dumps(about)})
    write_palette(path.with_name(PALETTE), list("abcd"), [1, 2, 3, 4], "tokens")
    return path


def probe_refusal(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        check_probe(path)
    assert "\n" not in str(error.value)
    assert not JARGON.search(str(error.value).replace(str(path), ""))
    return str(error.value)


@pytest.mark.parametrize("head", ["mlp", pytest.param("tr", marks=pytest.mark.thorough)])
def test_every_tensor_of_a_head_with_anything_wrong_is_refused(tmp_path: Path, head: str) -> None:
    path = write_probe(tmp_path, head)
    check_probe(path)
    with safetensors.safe_open(path, "np") as file:
        about = file.metadata()
    tensors = safetensors.numpy.load_file(path)
    for name, tensor in tensors.items():
        rows_may_differ = name in ("codes",)
        for what, wrong in damaged(tensor):
            if what == "text" or (rows_may_differ and what in ("longer", "shorter")):
                continue
            if (
                wrong.shape == tensor.shape
                and np.array_equal(wrong, tensor)
                and wrong.dtype == tensor.dtype
            ):
                continue
            safetensors.numpy.save_file({**tensors, name: np.ascontiguousarray(wrong)}, path, about)
            assert probe_refusal(path).startswith(str(path.parent)), (name, what)
        rest = {other: value for other, value in tensors.items() if other != name}
        safetensors.numpy.save_file(rest, path, about)
        probe_refusal(path)
    safetensors.numpy.save_file({**tensors, "more": np.zeros(3, np.float32)}, path, about)
    assert "holds more" in probe_refusal(path)


def test_every_word_of_a_head_about_itself_with_anything_wrong(tmp_path: Path) -> None:
    path = write_probe(tmp_path)
    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, "np") as file:
        about = json.loads(file.metadata()[ABOUT])
    for key in about:
        for value in (None, [], {}, -1, 10**30, "x" * 10_000):
            text = json.dumps({**about, key: value})
            safetensors.numpy.save_file(tensors, path, {ABOUT: text})
            assert f"{key} = " in probe_refusal(path)
    for text in ("", "[]", "3", "{", "[" * 50_000, json.dumps({**about, "more": 1})):
        safetensors.numpy.save_file(tensors, path, {ABOUT: text})
        probe_refusal(path)
    safetensors.numpy.save_file(tensors, path)
    assert "is not a probe of a trained head" in probe_refusal(path)


@pytest.mark.parametrize(
    ("sha256", "mean", "std", "message"),
    [
        ("b", None, None, "trained with other backbone weights"),
        ("a", [0.4, 0.5, 0.5], None, "mean: [0.5, 0.5, 0.5]`, but this run has [0.4, 0.5, 0.5]"),
        ("a", None, [0.1, 0.1, 0.1], "std: [0.2, 0.2, 0.2]`, but this run has [0.1, 0.1, 0.1]"),
        ("a", None, None, None),
        ("a", [0.5, 0.5, 0.5], [0.2, 0.2, 0.2], None),
    ],
)
def test_a_head_is_applied_to_tokens_like_those_it_was_trained_on(
    tmp_path: Path, sha256: str, mean: Any, std: Any, message: str | None
) -> None:
    source = write_probe(tmp_path)
    record = {"model": "m", "source": "file", "sha256": sha256, "parameters": 1,
             "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "interpolation": "bicubic",
             "patch_size": 16, "dim": 8, "heads": 2, "depth": 2, "prefix_tokens": 1}  # fmt: skip
    (tmp_path / "weights.json").write_text(json.dumps(record))
    made = tmp_path / "made" / "probe.safetensors", tmp_path / "made" / "palette.csv"

    def adopt() -> None:
        weights = tmp_path / "weights.safetensors"
        adopt_probe(tmp_path, 0, weights, *made, mean=mean, std=std)

    if message is None:
        adopt()
        assert made[0].read_bytes() == source.read_bytes()
        return
    with pytest.raises(ModelError) as error:
        adopt()
    assert message in str(error.value)
    assert not made[0].exists()


def test_the_table_of_a_head_has_a_row_for_each_cluster(tmp_path: Path) -> None:
    path = write_probe(tmp_path)
    write_palette(path.with_name(PALETTE), list("abc"), [1, 2, 3], "tokens")
    assert "must hold the values 0 to 3" in probe_refusal(path)
    path.with_name(PALETTE).unlink()
    assert PALETTE in probe_refusal(path)
