"""Weights from the hub: downloaded, continued, pinned, verified, refused, by its real protocol."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from builders import Payload, build_network
from huggingface_hub import constants

from hub import Hub, serving
from lightcluster.errors import WeightsError
from lightcluster.extraction.backbones.registry import find_family
from lightcluster.extraction.backbones.timm_models import locate
from lightcluster.extraction.settings import BackboneSettings
from lightcluster.extraction.weights import WeightsRecord, fetch_weights, read_record

MODEL = "vit_tiny_patch16_224"
REPOSITORY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
OLD, NEW = "a" * 40, "b" * 40

State = dict[str, torch.Tensor]
Fetch = Callable[..., WeightsRecord]


def state_of(seed: int) -> State:
    """The weights of an untrained network, as timm publishes them."""
    torch.manual_seed(seed)
    return build_network(MODEL).state_dict()


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    return {OLD: state_of(1), NEW: state_of(2)}


@pytest.fixture
def hub(states: dict[str, State], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with two commits of a model's weights, and an empty cache."""
    files = {
        (REPOSITORY, commit): {"model.safetensors": safetensors.torch.save(state)}
        for commit, state in states.items()
    }
    with serving(Hub(files)) as hub:
        point_at(hub.address, tmp_path / "cache", monkeypatch)
        yield hub


def point_at(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in this process what the variables HF_ENDPOINT and HF_HUB_CACHE do in a new one."""
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """``fetch(revision)``: download the weights into a file."""

    def run(revision: str | None = None, model: str = MODEL) -> WeightsRecord:
        return fetch_weights(model, "hub", None, 0, tmp_path / "w.safetensors", revision)

    return run


def first_block(tmp_path: Path) -> torch.Tensor:
    return safetensors.torch.load_file(tmp_path / "w.safetensors")["blocks.0.attn.qkv.weight"]


def test_the_newest_commit_is_downloaded_and_recorded(hub, states, fetch, tmp_path):
    family, _ = find_family(MODEL)
    assert family.locate(MODEL) == f"will be downloaded from {hub.address}/{REPOSITORY}"
    record = fetch()
    assert family.locate(MODEL) == "in the cache"
    assert record.origin == f"{REPOSITORY}@{NEW}/model.safetensors"
    assert read_record(tmp_path / "w.safetensors") == record
    assert torch.equal(first_block(tmp_path), states[NEW]["blocks.0.attn.qkv.weight"])
    assert hub.downloads == [None]
    fetch()
    assert hub.downloads == [None]  # from the cache


def test_a_pinned_commit_is_downloaded(hub, states, fetch, tmp_path):
    settings = BackboneSettings(model=MODEL, weights=f"hub@{OLD}")
    assert (settings.source, settings.revision, settings.file) == ("hub", OLD, None)
    record = fetch(settings.revision)
    assert record.origin == f"{REPOSITORY}@{OLD}/model.safetensors"
    assert torch.equal(first_block(tmp_path), states[OLD]["blocks.0.attn.qkv.weight"])
    with pytest.raises(WeightsError, match=r"has no commit, tag or branch 'v9'"):
        fetch("v9")


def test_weights_that_are_not_on_the_hub_have_no_revision():
    """As of models whose weights timm takes from their authors' servers."""
    published = {"hf_hub_id": None, "url": "https://example.org/w.pth"}
    with pytest.raises(WeightsError, match=r"example\.org/w\.pth and not on the hub"):
        locate(MODEL, published, OLD)


def test_a_download_that_is_cut_off_is_continued_at_once(hub, states, fetch, tmp_path):
    hub.cuts = 2
    fetch()
    half, size = hub.downloads[1], len(hub.files[REPOSITORY, NEW]["model.safetensors"])
    assert len(hub.downloads) == 3
    assert hub.downloads[0] is None
    assert size // 4 < int(half.removeprefix("bytes=").rstrip("-")) <= size // 2
    assert torch.equal(first_block(tmp_path), states[NEW]["blocks.0.attn.qkv.weight"])


@pytest.mark.thorough
def test_a_download_that_breaks_off_leaves_nothing_and_is_repeated_by_the_next_run(
    hub, fetch, tmp_path, monkeypatch
):
    hub.cuts = 1000
    with pytest.raises(WeightsError, match=r"could not be downloaded \(.*\)\. Run again"):
        fetch()
    assert not list(tmp_path.glob("*.safetensors"))
    hub.cuts = 0
    assert fetch().origin == f"{REPOSITORY}@{NEW}/model.safetensors"


def test_gated_weights_say_how_to_get_access(hub, fetch, monkeypatch):
    hub.token = "hf_secret"
    said = rf"{hub.address}/{REPOSITORY}: access must be granted.*accept.*hf auth login.*HF_TOKEN"
    with pytest.raises(WeightsError, match=said):
        fetch()
    with pytest.raises(WeightsError, match=said):  # `lightcluster check` says so too
        find_family(MODEL)[0].locate(MODEL)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch().origin.endswith("/model.safetensors")
    assert set(hub.shown) == {None}  # the other server, which has the files, never sees the token


@pytest.mark.thorough
def test_missing_repositories_and_files_are_named(hub, fetch):
    hub.files[REPOSITORY, NEW] = {"README.md": b"moved"}
    with pytest.raises(WeightsError, match=r"has no file model\.safetensors or pytorch_model\.bin"):
        fetch()
    hub.files.clear()
    with pytest.raises(WeightsError, match=r"there is no such repository, or it is private"):
        fetch()


@pytest.mark.thorough
def test_a_checkpoint_of_torch_is_read_where_there_is_no_safetensors_file(
    hub, states, fetch, tmp_path
):
    torch.save(states[NEW], tmp_path / "w.bin")
    hub.files[REPOSITORY, NEW] = {"pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    assert fetch().origin == f"{REPOSITORY}@{NEW}/pytorch_model.bin"
    assert torch.equal(first_block(tmp_path), states[NEW]["blocks.0.attn.qkv.weight"])


@pytest.mark.thorough
def test_code_in_a_downloaded_checkpoint_is_not_run(hub, fetch, tmp_path):
    torch.save({"weights": Payload(tmp_path / "ran")}, tmp_path / "w.bin")
    hub.files[REPOSITORY, NEW] = {"pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: does not fit"):
        fetch()
    assert not (tmp_path / "ran").exists()


@pytest.mark.thorough
def test_weights_of_another_network_are_refused(hub, states, fetch):
    lacking = {name: tensor for name, tensor in states[NEW].items() if "blocks.5.norm" not in name}
    larger = {**states[NEW], "cls_token": torch.zeros(1, 1, 3)}
    cases = {"blocks.0": {"head.weight": torch.zeros(3)}, "blocks.5.norm1": lacking}
    for number, (named, state) in enumerate({**cases, "cls_token": larger}.items()):
        commit = str(number) * 40
        hub.files[REPOSITORY, commit] = {"model.safetensors": safetensors.torch.save(state)}
        with pytest.raises(WeightsError, match=rf"{commit}.* does not fit {MODEL}.*{named}"):
            fetch()


def test_a_file_that_is_damaged_in_the_cache_is_refused(hub, fetch, tmp_path):
    fetch()
    (stored,) = (tmp_path / "cache").rglob("blobs/*")
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is damaged \(SHA-256 .*delete it and run again"):
        fetch()
    stored.unlink()
    fetch()


@pytest.mark.thorough
def test_without_the_hub_the_cache_is_used(hub, fetch, tmp_path, monkeypatch):
    fetch()
    asked = len(hub.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch().origin == f"{REPOSITORY}@{NEW}/model.safetensors"
    assert len(hub.asked) == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_at("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)  # where nobody listens
    began = time.monotonic()
    assert fetch().origin == f"{REPOSITORY}@{NEW}/model.safetensors"
    assert time.monotonic() - began < 30
    with pytest.raises(WeightsError, match="is not in the cache"):
        fetch(OLD)


@pytest.mark.thorough
def test_a_mirror_and_a_token_are_taken_from_the_environment(hub, tmp_path):
    """Another process, with nothing but the variables that users set."""
    hub.token = "hf_secret"
    output = tmp_path / "w.safetensors"
    code = (
        "import sys, pathlib; from lightcluster.extraction.weights import fetch_weights;"
        f"fetch_weights({MODEL!r}, 'hub', None, 0, pathlib.Path(sys.argv[1]))"
    )
    variables = {
        **os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, str(output)], env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert read_record(output).origin == f"{REPOSITORY}@{NEW}/model.safetensors"
    assert list((tmp_path / "home" / "hub").rglob("model.safetensors"))
