"""Published figures: the file is as its source has it, and a wrong line is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from lightcluster.cause.views import training_views
from lightcluster.config import BenchmarkName, parse_config, put_over
from lightcluster.errors import StoreError
from lightcluster.evaluation.published import PUBLISHED, read_published
from lightcluster.identity import training_size

HEADER = "system,variant,backbone,dataset,images,protocol,metric,value,sd,source,hygiene"


def of(dataset: str) -> dict[tuple[str, str], float]:
    return {(figure.name, figure.metric): figure.value for figure in read_published(dataset)}


def test_every_benchmark_has_figures_and_none_has_none():
    for name in get_args(BenchmarkName):
        assert bool(read_published(name)) == (name != "none")
    lines = PUBLISHED.read_text(encoding="utf-8").splitlines()
    assert sum(len(read_published(name)) for name in get_args(BenchmarkName)) == len(lines) - 1


def test_figures_of_voc():
    assert of("voc2012") == {
        ("MaskContrast", "miou"): 35.0,
        ("MaskContrast (with supervised saliency)", "miou"): 44.2,
        ("DeepSpectral (without self-training)", "miou"): 30.8,
        ("DeepSpectral (without self-training, as users measured it over 5 seeds)", "miou"): 23.8,
        ("DeepSpectral (self-trained)", "miou"): 37.2,
        ("HSG", "miou"): 41.9,
        ("Leopart (S/16)", "miou"): 41.7,
        ("Leopart (B/8)", "miou"): 47.2,
        ("MaskDistill", "miou"): 45.8,
        ("MaskDistill (with CRF)", "miou"): 48.9,
        ("COMUS", "miou"): 50.0,
        ("CAUSE (DINO S/8, MLP)", "miou"): 46.0,
        ("CAUSE (DINO S/8, TR)", "miou"): 50.0,
        ("CAUSE (DINO B/8, MLP)", "miou"): 47.9,
        ("CAUSE (DINO B/8, TR)", "miou"): 53.3,
        ("CAUSE (DINOv2 B/14, TR)", "miou"): 53.2,
        ("CAUSE (DINOv2 B/14, TR)", "pixel_accuracy"): 91.5,
        ("CAUSE (iBOT B/16, TR)", "miou"): 53.4,
        ("CAUSE (iBOT B/16, TR)", "pixel_accuracy"): 89.6,
    }
    figures = read_published("voc2012")
    assert {f.name: f.sd for f in figures if f.sd is not None} == {
        "DeepSpectral (self-trained)": 3.8
    }
    assert {f.system for f in figures if "training-free" in f.hygiene} == {"DeepSpectral"}
    assert {f.system for f in figures if f.protocol == "stego"} == {"CAUSE"}
    assert {f.system for f in figures if "label leak" in f.hygiene} == {"CAUSE"}


def test_figures_of_coco():
    stuff = of("coco_stuff_27")
    assert stuff["k-means (DINO B/8)", "miou"] == 15.7
    assert stuff["STEGO (B/8)", "pixel_accuracy"] == 56.9
    assert stuff["CAUSE (DINOv2 B/14, TR)", "miou"] == 45.3
    assert stuff["CAUSE (DINO S/8, MLP)", "pixel_accuracy"] == 66.8
    assert len(stuff) == 27
    assert {figure.protocol for figure in read_published("coco_stuff_27")} == {"stego"}
    assert of("coco_81") == {
        ("COMUS (instance ground truth)", "miou"): 19.6,
        ("CAUSE (DINO S/8, MLP, stuff-map ground truth)", "miou"): 19.1,
        ("CAUSE (DINO S/8, MLP, stuff-map ground truth)", "pixel_accuracy"): 78.8,
        ("CAUSE (DINO S/8, TR, stuff-map ground truth)", "miou"): 21.2,
        ("CAUSE (DINO S/8, TR, stuff-map ground truth)", "pixel_accuracy"): 75.2,
    }
    assert of("coco_171") == {
        ("CAUSE (DINO S/8, TR)", "miou"): 15.2,
        ("CAUSE (DINO S/8, TR)", "pixel_accuracy"): 46.6,
    }


def test_figures_of_cityscapes():
    found = of("cityscapes")
    assert len(found) == 12
    assert found["CAUSE (DINO B/8, TR)", "miou"] == 28.0
    assert found["CAUSE (iBOT B/16, TR)", "pixel_accuracy"] == 89.1


def test_figures_name_their_images():
    lists = {f.images for name in get_args(BenchmarkName) for f in read_published(name)}
    assert "" not in lists
    of_27, of_81 = read_published("coco_stuff_27"), read_published("coco_81")
    assert {figure.images for figure in of_27} == {"2,175 curated of val2017"}
    assert {figure.images for figure in of_81 if figure.system == "CAUSE"} == {
        "val2017, list Coco164kFull_Stuff_Coarse"
    }


def test_every_figure_of_cause_is_marked():
    figures = [f for name in get_args(BenchmarkName) for f in read_published(name)]
    of_cause = [figure for figure in figures if figure.system == "CAUSE"]
    assert len(of_cause) == 12 + 12 + 8 + 4 + 2
    for figure in of_cause:
        assert figure.hygiene == ("not training-free", "label leak")
        assert figure.protocol == "stego"


def test_no_figure_is_of_the_method_itself():
    assert "lightcluster" not in PUBLISHED.read_text(encoding="utf-8").lower()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A,,,voc2012,val,maskcontrast,miou,350,,A,", r"line 3: value = '350'"),
        ("A,,,voc2012,val,ours,miou,35,,A,", r"line 3: protocol = 'ours'"),
        ("A,,,imagenet,val,stego,miou,35,,A,", r"line 3: dataset = 'imagenet'"),
        ("A,,,voc2012,val,stego,miou,35,,A,honest", r"line 3: hygiene.0 = 'honest'"),
        ("A,,,voc2012,val,stego,miou,35,-1,A,", r"line 3: sd = '-1'"),
        (",,,voc2012,val,stego,miou,35,,A,", r"line 3: system = ''"),
        ("A,,,voc2012,val,stego,miou", r"line 3: value = None"),
        ("B,,,voc2012,val,stego,miou,35,,A,", r"B stands twice"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str):
    path = tmp_path / "published.csv"
    path.write_text(f"{HEADER}\nB,,,voc2012,val,stego,miou,1,,B,\n{line}\n", encoding="utf-8")
    with pytest.raises(StoreError, match=message):
        read_published("voc2012", path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(StoreError, match=r"none\.csv: cannot be used"):
        read_published("voc2012", tmp_path / "none.csv")


PUBLISHED_SETTINGS = {
    "coco_stuff27": ("coco_stuff27.yaml", 5, "crop", {"mlp": (1e-4, 0.1), "tr": (1e-4, 2.0)}),
    "coco_stuff81": ("coco_stuff27.yaml", 20, "crop", {"mlp": (1e-4, 1.0), "tr": (1e-4, 1.0)}),
    "coco_stuff171": ("coco_stuff27.yaml", 20, "crop", {"mlp": (1e-4, 1.0), "tr": (1e-4, 1.0)}),
    "voc": ("voc.yaml", 50, "squash", {"mlp": (1e-4, 1.0), "tr": (1e-4, 1.0)}),
    "cityscapes": ("cityscapes.yaml", 5, "crop", {"mlp": (0.0, 1.0), "tr": (0.0, 1.0)}),
}
"""Of CAUSE, by dataset: what it is put over, crops of an image, framing, and of each head the
weight decay and the clipping."""


@pytest.mark.parametrize("name", PUBLISHED_SETTINGS)
def test_configurations_of_cause_are_the_published_ones(name: str):
    base, crops, framing, of_head = PUBLISHED_SETTINGS[name]
    folder = PUBLISHED.parents[1] / "config"
    raw: dict[str, Any] = {}
    for path in (folder / base, folder / "cause" / f"{name}.yaml"):
        raw = put_over(raw, yaml.safe_load(path.read_text(encoding="utf-8")))
    configs = parse_config(raw)
    full = name in ("coco_stuff27", "voc", "cityscapes")
    assert [run.removeprefix("cause-") for run in configs] == (
        ["s8-mlp", "s8-tr", "b8-mlp", "b8-tr", "dinov2-tr", "ibot-tr"]
        if full
        else ["s8-mlp", "s8-tr"]
    )
    for run, config in configs.items():
        cause = config.cause
        views = training_views(480, 640, cause.fractions, cause.mirrored, cause.framing)
        assert (len(views), cause.framing, cause.head) == (crops, framing, run.rpartition("-")[2])
        assert (cause.weight_decay, cause.clip) == of_head[cause.head]
        patch = {"s8": 8, "b8": 8, "dinov2": 14, "ibot": 16}[run.split("-")[1]]
        assert (cause.size, cause.size % patch) == (322 if patch == 14 else 320, 0)
        assert training_size(cause.head, cause.size) == (224 if cause.head == "mlp" else cause.size)
        assert (cause.codes, cause.bank, cause.batch_size) == (2048, 100, 16)
        assert (cause.learning_rate, cause.probe_start, cause.linear_probe) == (
            1e-3, "uniform", "none",
        )  # fmt: skip
        assert "stego" in config.evaluation.protocols
        assert config.evaluation.stego_squash == (name == "voc")
        assert config.comparison.published != "none"
    transfer = yaml.safe_load((folder / "cause" / f"{name}_transfer.yaml").read_text("utf-8"))
    for run, settings in transfer["runs"].items():
        place = settings["fit"]["model"]
        assert place == f"results/{configs[run].dataset.name}-train/{run}/cause"
    assert transfer["runs"].keys() == configs.keys()
