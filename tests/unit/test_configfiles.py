"""Files of settings: what is read of them, and what would be lost in silence."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config
from typer.testing import CliRunner

from lightcluster import cli
from lightcluster.configfiles import as_written, check_arguments, merge_files, read_file
from lightcluster.errors import ConfigError


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def as_snakemake(*paths: Path) -> dict:
    merged: dict = {}
    for path in paths:
        update_config(merged, load_configfile(path))
    return merged


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("labelling: {classes: 3}\nlabelling: {classes: 5}\n", ["2: `labelling`*1"]),
        ("labelling:\n  classes: 3\n  pca: 0\n  classes: 5\n", ["4: `labelling.classes`*2"]),
        ("labelling: {classes: 3, classes: 3}\n", ["1: `labelling.classes`*1"]),
        ("a: 1\n'a': 2\n\"a\": 3\n", ["2: `a`*1", "3: `a`*1"]),
        ("runs:\n  x: {}\n  y: {}\n  x: {features: {layer: 1}}\n", ["4: `runs.x`*2"]),
        ("a: [{b: 1, b: 2}]\n", ["1: `a.b`*1"]),
        ("yes: 1\ntrue: 2\n", ["2: `true`*1"]),
        ("1: 1\n0x1: 2\n", ["2: `0x1`*1"]),
        ('{"a": 1,\n\t"b": {"c": 1,\n\t"c": 2}}', ["3: `b.c`*2"]),
        ("x: &x {a: 1, a: 2}\ny: *x\n", ["1: `x.a`*1"]),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path, text, lines):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    expected = []
    for line in lines:
        what, _, first = line.partition("*")
        expected.append(
            f"{path}, line {what} is given twice (first in line {first}); keep one of them"
        )
    assert str(caught.value).splitlines() == expected


@pytest.mark.parametrize(
    "text",
    [
        "base: &base {layer: 3, facet: key}\nfeatures:\n  <<: *base\n  layer: 4\n",
        "a: &a {x: 1}\nb: &b {y: 2}\nc: {<<: [*a, *b], x: 3}\n",
        "a: &a [1, 2]\nb: *a\nc: {d: *a}\n",
        "a: {x: 1}\nb: {x: 1}\n",
        "runs:\n  a: {features: {layer: 1}}\n  b: {features: {layer: 1}}\n",
        '{"a": 1e-3,\n\t"b": [true, null]}',
        "a: 1e-3\nb: .nan\n",
        "{}",
    ],
)
def test_other_files_are_read_as_snakemake_reads_them(tmp_path, text):
    path = write(tmp_path, text)
    assert repr(read_file(path)) == repr(dict(load_configfile(path)))


def test_a_bomb_of_anchors_is_read_at_once_and_one_that_holds_itself_refused(tmp_path):
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    assert len(read_file(write(tmp_path, "\n".join(lines)))) == 40
    path = write(tmp_path, "a: 1\nb: &b\n  c: *b\n")
    with pytest.raises(ConfigError, match="line 2: an anchor must not contain itself"):
        read_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.yaml: must contain keys with values, found nothing but comments"),
        (b"# features:\n", "found nothing but comments"),
        (b"- a\n- b\n", "a.yaml: must contain keys with values, found ['a', 'b']"),
        (b"features\n", "found 'features'"),
        (b"a: 1\n b: 2\n", "a.yaml, line 2: is not YAML"),
        (b"a:\n\tb: 1\n", "a.yaml, line 2: is not YAML (a tab; indent with spaces)"),
        (b"a: [1, 2\n", "is not YAML"),
        (b"a: 1\n---\nb: 2\n", "is not YAML"),
        (b"\xff\xfe\x00", "a.yaml: is not UTF-8 text"),
        (b"a: !!python/object:os.system {}\n", "a.yaml, line 1: is not YAML"),
        (b"a: 2020-13-45\n", "is not YAML"),
        (b"[" * 20_000, "a.yaml: is nested too deeply"),
    ],
)
def test_what_is_no_file_of_settings_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path):
    for path, message in (
        (tmp_path / "none.yaml", "none.yaml: there is no such configuration file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_file(path)


def test_later_files_are_put_over_earlier_ones(tmp_path):
    first = write(tmp_path, "features: {layer: 3, facet: key}\nlabelling: {classes: 4}\n")
    second = write(tmp_path, "features: {layer: 5}\nreport: {samples: 2}\n", "b.yaml")
    merged = merge_files([first, second])
    assert merged == as_snakemake(first, second)
    assert merged["features"] == {"layer": 5, "facet": "key"}
    assert as_written(merged, [first, second]) == merged


def test_a_section_whose_lines_are_comments_takes_nothing_away(tmp_path):
    first = write(
        tmp_path,
        "features: {layer: 3}\nruns: {a: {report: {seed: 1}}, b: {}}\n"
        "dataset: {demo: {scenes: 9}}\n",
    )
    second = write(
        tmp_path,
        "features:\n  # layer: 5\nlabelling:\nruns: {a: , b: {report: }}\ndataset: {demo: }\n",
        "b.yaml",
    )
    expected = {
        "features": {"layer": 3},
        "labelling": None,
        "runs": {"a": {"report": {"seed": 1}}, "b": {"report": None}},
        "dataset": {"demo": {"scenes": 9}},
    }
    assert merge_files([first, second]) == expected
    snakemake = as_snakemake(first, second)
    assert snakemake["features"] is None
    assert as_written(snakemake, [first, second]) == expected
    assert as_written({**snakemake, "features": {"layer": 7}}, [first, second]) == {
        **expected,
        "features": {"layer": 7},
    }


def test_pipes_are_not_read_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert as_written({"features": None}, [tmp_path / "pipe"]) == {"features": None}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the workflow's own settings and two more files."""
    (tmp_path / "config").mkdir()
    write(tmp_path / "config", json.dumps({"dataset": {"demo": {"scenes": 5}}}), "config.yaml")
    write(tmp_path, "dataset: {demo: {scenes: 7, seed: 3}}\n", "a.yaml")
    write(tmp_path, "dataset: {demo: {scenes: 6}}\n", "b.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["check", "plan"])
@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ([], []),
        (["--configfile", "a.yaml"], ["a.yaml"]),
        (["--configfile", "a.yaml", "b.yaml"], ["a.yaml", "b.yaml"]),
        (["--configfiles", "b.yaml", "a.yaml"], ["b.yaml", "a.yaml"]),
        (["--configfile=b.yaml"], ["b.yaml"]),
    ],
)
def test_configfiles_are_given_as_to_snakemake(monkeypatch, command, arguments, read):
    given = []
    name = {"check": "check_all", "plan": "print_plan"}[command]
    monkeypatch.setattr(f"lightcluster.preview.{name}", lambda files: given.extend(files) or 0)
    result = CliRunner().invoke(cli.app, [command, *arguments])
    assert result.exit_code == 0, result.output
    assert given == [Path(path) for path in read]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--configfile"], "requires an argument"),
        (["a.yaml"], "unexpected extra argument"),
        (["--configfile=a.yaml", "b.yaml"], "unexpected extra argument"),
        (["--configfile", "a.yaml", "--configfile", "b.yaml"], "all files after one --configfile"),
    ],
)
def test_other_ways_to_give_them_are_refused(arguments, message):
    result = CliRunner().invoke(cli.app, ["check", *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_the_last_of_several_files_counts(folder, capsys):
    from lightcluster.preview import read_configs

    files = [Path("a.yaml"), Path("b.yaml")]
    demo = read_configs(files)["lightcluster"].dataset.demo
    assert (demo.scenes, demo.seed) == (6, 3)
    assert read_configs([])["lightcluster"].dataset.demo.scenes == 5
    (folder / "config" / "config.yaml").unlink()
    assert read_configs(files)["lightcluster"].dataset.demo.scenes == 6
    with pytest.raises(ConfigError, match=r"config/config\.yaml: there is no such"):
        read_configs([])


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("clustering: {seed: 010}\n", ["line 1: clustering.seed = 010: YAML reads numbers that"]),
        ("labelling:\n  seeds: [1, -017]\n", ["line 2: labelling.seeds = -017: .* here as -15;"]),
        ("clustering: {seed: 1:30}\n", ["seed = 1:30: YAML reads this as 90, in base 60"]),
        ("reestimation: {radius: 0:0.5}\n", ["radius = 0:0.5: YAML reads this as 0.5, in base 60"]),
        ("a: &x 010\nb: *x\nc: 1:1\n", ["a = 010", "c = 1:1"]),
        ("a: &a {x: 1}\nb: {<<: *a, <<: {x: 2}}\n", ["`b.<<` is given twice"]),
        ('{"a"\n: {"b": 1, "b": 2}, "c": 1, "c": 2}', ["`b` is given twice", "`c` is given twice"]),
        ("clustering: {seed: %s}\n" % ("9" * 5000), ["contains a number with thousands of digits"]),
    ],
)
def test_numbers_in_disguise_and_keys_lost_in_other_ways_are_refused(tmp_path, text, messages):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert line.startswith(str(path))
        assert re.search(message, line)


def test_numbers_that_mean_what_they_say_are_none_in_disguise(tmp_path):
    text = "a: [0, -0, 07, 0x10, 1_0, '010', \"1:30\", 0.5, 1.0e+3]\nb: '010'\n"
    path = write(tmp_path, text)
    assert read_file(path) == dict(load_configfile(path))
    path = write(tmp_path, '{"a"\n: {"b": 1}, "c\\/d": "1:30", "e": "\x7f"}')
    assert read_file(path) == {"a": {"b": 1}, "c/d": "1:30", "e": "\x7f"}


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["-n", "--configfile", "a.yaml", "b.yaml", "--config", "a=1", "b={c: 010, d: 2}"], []),
        (["--config", "a={b", "a="], []),
        (
            ["target", "--configfile", "a.yaml", "--configfiles", "b.yaml"],
            ["--configfile is given more than once, and only the last one would be"],
        ),
        (
            ["-C", "a=1", "-n", "--config=b=2"],
            ["--config is given more than once"],
        ),
        (["-C", "a={b: 1, b: 2}"], ["--config, line 1: `a.b` is given twice"]),
        (["--config", "x=1", "a={c: {b: 1, b: 1}}"], ["--config, line 1: `a.c.b` is given twice"]),
    ],
)
def test_what_the_command_line_would_lose_is_refused(words, messages):
    if not messages:
        check_arguments(words)
        return
    with pytest.raises(ConfigError) as caught:
        check_arguments(words)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(messages)
    assert all(line.startswith(start) for line, start in zip(lines, messages, strict=True))
