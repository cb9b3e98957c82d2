"""Published figures: the file is as its source has it, and a wrong line is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import yaml

from lightcluster.config import Config, parse_config, put_over
from lightcluster.errors import StoreError
from lightcluster.evaluation.published import PUBLISHED, read_published
from lightcluster.evaluation.settings import BenchmarkName
from lightcluster.methods.cause.sharing import clusterbook_crops_id, crops_id, training_size
from lightcluster.methods.cause.stages import HeadKind
from lightcluster.methods.cause.views import training_views

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


CURATED = "/data/coco/curated/"
COARSE = CURATED + "{}/Coco164kFull_Stuff_Coarse.txt"


class Published(NamedTuple):
    """What the specification says of CAUSE on a dataset.

    Attributes
    ----------
    base : str
        Configuration that it is put over.
    benchmark : str
    training, evaluation : (str, str or None)
        Split and list of images.
    crops : int
        Of an image.
    framing : str
    decay : float
    clips : dict of str to (float, float or None)
        By head: of its training, and of the probe's.
    """

    base: str
    benchmark: str
    training: tuple[str, str | None]
    evaluation: tuple[str, str | None]
    crops: int
    framing: str
    decay: float
    clips: dict[str, tuple[float, float | None]]


BY_LIST = ("train2017", COARSE.format("train2017"))
ON_LIST = ("val2017", COARSE.format("val2017"))
ON_2175 = ("val2017", f"{CURATED}val2017/Coco164kFull_Stuff_Coarse_7.txt")
ELSEWHERE: dict[str, tuple[float, float | None]] = {"mlp": (1, None), "tr": (1, None)}

OF_CAUSE = {
    "coco_stuff27": Published(
        "coco_stuff27", "coco_stuff_27", BY_LIST, ON_2175, 5, "crop", 1e-4,
        {"mlp": (0.1, 0.1), "tr": (2, 2)},
    ),
    "coco_stuff81": Published(
        "coco_stuff27", "coco_81", BY_LIST, ON_LIST, 20, "crop", 1e-4, ELSEWHERE
    ),
    "coco_stuff171": Published(
        "coco_stuff27", "coco_171", BY_LIST, ON_LIST, 20, "crop", 1e-4, ELSEWHERE
    ),
    "voc": Published(
        "voc", "voc2012", ("train", None), ("val", None), 50, "squash", 1e-4, ELSEWHERE
    ),
    "cityscapes": Published(
        "cityscapes", "cityscapes", ("train", None), ("val", None), 5, "crop", 0,
        {"mlp": (1, 1), "tr": (1, 1)},
    ),
}  # fmt: skip


def configs_of(*files: str) -> dict[str, Config]:
    """The runs of configurations put over one another."""
    folder, raw = PUBLISHED.parents[1] / "config", dict[str, Any]()
    for name in files:
        raw = put_over(raw, yaml.safe_load((folder / name).read_text(encoding="utf-8")))
    return parse_config(raw)


@pytest.mark.parametrize("name", OF_CAUSE)
def test_configurations_of_cause_are_the_published_ones(name: str):
    published = OF_CAUSE[name]
    files = f"{published.base}.yaml", f"cause/{name}.yaml"
    configs = configs_of(*files)
    full = name in ("coco_stuff27", "voc", "cityscapes")
    assert [run.removeprefix("cause-") for run in configs] == (
        ["s8-mlp", "s8-tr", "b8-mlp", "b8-tr", "dinov2-tr", "ibot-tr"]
        if full
        else ["s8-mlp", "s8-tr"]
    )
    for run, config in configs.items():
        cause = config.cause
        views = training_views(480, 640, cause.fractions, cause.mirrored, cause.framing)
        assert len(views) == published.crops
        assert (cause.framing, cause.head) == (published.framing, run.rpartition("-")[2])
        assert cause.weight_decay == cause.probe_weight_decay == published.decay
        assert (cause.clip, cause.probe_clip) == published.clips[cause.head]
        patch = {"s8": 8, "b8": 8, "dinov2": 14, "ibot": 16}[run.split("-")[1]]
        assert (cause.size, cause.size % patch) == (322 if patch == 14 else 320, 0)
        assert training_size(cause.head, cause.size) == (224 if cause.head == "mlp" else cause.size)
        assert clusterbook_crops_id(config) == crops_id(with_head(config, "tr"))
        assert (cause.codes, cause.bank, cause.batch_size) == (2048, 100, 16)
        assert (cause.learning_rate, cause.least_steps) == (1e-3, 1)
        assert (cause.teacher_start, cause.probe_start, cause.probe_dropout) == (
            "shared", "uniform", True,
        )  # fmt: skip
        assert (cause.resampling, cause.crf, cause.crf_image) == ("nearest", True, "bgr")
        assert config.backbone.positions == "as_released"
        assert cause.linear_probe == "none"  # whatever the published figures owe to labels
        assert "stego" in config.evaluation.protocols
        assert config.evaluation.stego_squash == (name == "voc")
        assert config.comparison.published == published.benchmark


def with_head(config: Config, head: HeadKind) -> Config:
    return config.model_copy(update={"cause": config.cause.model_copy(update={"head": head})})


@pytest.mark.parametrize("name", OF_CAUSE)
def test_they_train_and_evaluate_on_the_published_lists_of_images(name: str):
    published = OF_CAUSE[name]
    files = f"{published.base}.yaml", f"cause/{name}.yaml"
    text = (PUBLISHED.parents[1] / "config" / files[1]).read_text(encoding="utf-8")
    for extra, (split, images) in (
        ((), published.evaluation), ((f"cause/{name}_train.yaml",), published.training),
    ):  # fmt: skip
        configs = configs_of(*files, *extra)
        for config in configs.values():
            found = config.dataset.image_list
            assert (config.dataset.split, found and str(found)) == (split, images)
            assert config.dataset.name == name + "-train" * len(extra)
        if images is not None:
            assert images.removeprefix(CURATED) in text  # it is said
    assert f"`{published.benchmark}`" in text
    folder = PUBLISHED.parents[1] / "config/cause"
    transfer = yaml.safe_load((folder / f"{name}_transfer.yaml").read_text("utf-8"))["runs"]
    assert transfer == {
        run: {"fit": {"model": f"results/{name}-train/{run}/cause"}} for run in configs
    }
