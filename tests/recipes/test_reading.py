"""A recipe is read in few places: it, ``defaults.yaml``, and the pipelines that it names."""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from hydra_plugins.mixbt_plugin.registration import PARTS
from mixbt_plugin.apps.command import config_root, shipped_configs
from mixbt_plugin.apps.renamed import RENAMED, renamed
from mixbt_plugin.keys import (
    CompareConfig,
    DiagnoseConfig,
    EmbedConfig,
    ExportConfig,
    KNNConfig,
    LinearConfig,
    PretrainConfig,
)
from mixbt_plugin.settings import Section, dotted
from tests.recipes.shipped import composed, plain

ROOT = config_root()
GROUPS = (*PARTS, "parity", "finetuning", "transfer")
SHIPPED = [path for group in GROUPS for path in shipped_configs(group)]
VIEWS = shipped_configs("views")


@cache
def content(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.load(path.read_text(), yaml.CSafeLoader)
    return read


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


def included(path: Path) -> list[Path]:
    """The files that a config names in its list ``defaults``."""
    entries: list[Any] = content(path).get("defaults", [])
    found = []
    for entry in entries:
        if entry == "_self_" or next(iter(entry)).startswith("override"):
            continue
        ((group, options),) = entry.items() if isinstance(entry, dict) else [("", entry)]
        for option in options if isinstance(options, list) else [options]:
            if group == "/defaults":
                found.append(ROOT / "defaults.yaml")
            else:
                folder = ROOT / group.lstrip("/") if group.startswith("/") else path.parent / group
                found.append(folder / f"{option}.yaml")
    return found


def files(path: Path) -> set[Path]:
    """A recipe and all that is read with it."""
    parts = included(path) if path.name != "defaults.yaml" else []
    return {path}.union(*map(files, parts))


def depth(path: Path) -> int:
    parts = included(path) if path.name != "defaults.yaml" else []
    return 1 + max(map(depth, parts), default=-1) if parts else 0


def test_every_recipe_is_four_files_at_most_two_deep() -> None:
    assert [name_of(path) for path in SHIPPED if len(files(path)) > 4 or depth(path) > 2] == []


def test_there_are_no_more_than_180_files_and_all_are_read() -> None:
    there = set(ROOT.rglob("*.yaml"))
    assert len(there) <= 180
    read = set(chain.from_iterable(map(files, SHIPPED)))
    assert there == read


def test_a_recommended_recipe_is_35_lines_at_most() -> None:
    """Without its header; those of the official codes say more that differs."""
    lengths = {name_of(path): lines(path) for path in shipped_configs("pretrain")}
    assert {name: length for name, length in lengths.items() if length > 35} == {}


def lines(path: Path) -> int:
    return sum(bool(line) and line[0] != "#" for line in path.read_text().splitlines())


def test_every_key_of_a_recipe_is_in_the_defaults() -> None:
    """But for those of methods, backbones, optimisers and arms, pipelines, and tables."""
    own = re.compile(
        r"|(view|further_views|lambs|mus|half_mus|method_kwargs|arms)\..*|.*\.kwargs\..*"
    )
    sections = content(ROOT / "defaults.yaml")
    unknown = set[str]()
    for path in SHIPPED:
        said = keys({key: value for key, value in content(path).items() if key != "defaults"})
        unknown |= said.difference(*(keys(sections[part]) for part in PARTS[command_of(path)]))
    assert {key for key in unknown if not own.fullmatch(key)} == set()


def command_of(path: Path) -> str:
    """Whose recipe a file is."""
    group = path.relative_to(ROOT).parts[0]
    if group in PARTS:
        return group
    return "pretrain" if group == "parity" else "linear"


def keys(node: Any, path: str = "") -> set[str]:
    if isinstance(node, dict) and node:
        inside = [keys(value, f"{path}.{key}" if path else str(key)) for key, value in node.items()]
        return set[str]().union(*inside)
    return {path}


@pytest.mark.parametrize(
    "command,declared",
    [
        ("pretrain", PretrainConfig),
        ("linear", LinearConfig),
        ("compare", CompareConfig),
        ("knn", KNNConfig),
        ("export", ExportConfig),
        ("embed", EmbedConfig),
        ("diagnose", DiagnoseConfig),
    ],
)
def test_the_defaults_are_those_of_the_declarations(command: str, declared: type[Section]) -> None:
    """Each declared key is listed, with its default, or ??? where it must be given."""
    sections: Any = OmegaConf.load(ROOT / "defaults.yaml")
    listed = OmegaConf.merge(*(sections[part] for part in PARTS[command]))
    # Made of other keys, needed by one command alone, and read by solo-learn's methods alone.
    by_command = {"name", "pretrained_feature_extractor", "momentum"}
    wrong = {}
    for name, field in dotted(declared).items():
        value = OmegaConf.to_container(listed)
        for part in name.split("."):
            value = value.get(part, "not listed") if isinstance(value, dict) else "not listed"
        default = "???" if field.is_required() else field.get_default(call_default_factory=True)
        if value != default and name not in by_command:
            wrong[name] = (value, default)
    assert wrong == {}


def test_every_default_has_a_comment() -> None:
    lines = (ROOT / "defaults.yaml").read_text().splitlines()
    values = [line for line in lines if ": " in line and "- override" not in line]
    assert [line for line in values if " # " not in line and not line.startswith("#")] == []


def resolved(config: str, *overrides: str) -> Any:
    return plain(composed(config, *overrides))


@pytest.mark.parametrize("path", [*VIEWS], ids=name_of)
def test_views_are_changed_together_and_one_by_one(path: Path) -> None:
    if path.stem == "further_views":
        words = ("view.crop_size=48", "view.grayscale.prob=1")
        many = resolved("pretrain/cifar/multiaug_vicreg", *words)
        assert [view["crop_size"] for view in many["augmentations"]] == [48, [48, 48]]
        assert [view["grayscale"]["prob"] for view in many["augmentations"]] == [1, 1]
        one = resolved("pretrain/cifar/multiaug_vicreg", "further_views.color_jitter.hue=0")
        assert [view["color_jitter"]["hue"] for view in one["augmentations"]] == [0.1, 0]
        return
    group = f"views={path.stem}"
    all_views = resolved("pretrain/cifar/mixbt", group, "view.crop_size=48")["augmentations"]
    assert {view["crop_size"] for view in all_views} == {48}
    assert sum(view["num_crops"] for view in all_views) == 2
    if len(all_views) == 2:
        words = (group, "second_view.color_jitter.hue=0")
        one = resolved("pretrain/cifar/mixbt", *words)["augmentations"]
        assert [view["color_jitter"]["hue"] for view in one] == [0.1, 0]


OLD = [
    "pretrain/cifar/mixbt_resnet50",
    "pretrain/cifar100/vicreg",
    "pretrain/cifar100/hsic_ssl_resnet50",
    "pretrain/stl10/multiaug_vicreg_resnet50",
    "pretrain/tiny-imagenet/barlow_twins_resnet50",
    "pretrain/custom-no-labels/mixbt",
    "linear/mix-bt/cifar100_train_mode",
    "linear/hsic_ssl/stl10_train_mode",
    "linear/cifar100",
    "transfer/train_mode/dtd",
]


@pytest.mark.parametrize("old", OLD)
def test_what_replaces_an_old_name_is_there(old: str) -> None:
    words = (renamed(old) or "").split()
    _, folder, _, name, *overrides = words
    cfg = composed(f"{folder}/{name}", *overrides)
    for override in overrides:
        key, _, value = override.partition("=")
        expected = yaml.safe_load(value)
        found = cfg
        for part in key.split("."):
            found = found[part]
        assert found == expected


def test_no_recipe_has_an_old_name() -> None:
    assert [path for path in SHIPPED if renamed(name_of(path))] == []
    assert all(any(re.fullmatch(pattern, old) for old in OLD) for pattern, _ in RENAMED)
