"""Wrong configs made of the declarations: none starts, and each is refused by a message of ours.

``python -m tests.apps.test_wrong_configs`` prints how each command answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin import registry
from mixbt_plugin.apps import compare, diagnose, embed, export, knn, linear
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.keys import (
    OPTIMIZER_KWARGS,
    CompareArm,
    CompareConfig,
    DiagnoseConfig,
    EmbedConfig,
    ExportConfig,
    KNNConfig,
    LinearConfig,
    Pipeline,
    PretrainConfig,
)
from mixbt_plugin.registry import list_methods
from mixbt_plugin.settings import ConfigError, Section, dotted
from tests.apps.composing import composed


class StartedError(Exception):
    """What a config that should have been refused leads to."""


class Wrong(NamedTuple):
    """A change that makes a good config wrong."""

    kind: str
    key: str
    value: Any
    also: dict[str, Any]


class Command(NamedTuple):
    run: Callable[[DictConfig], Any]
    config: str
    overrides: tuple[str, ...]
    declared: type[Section]


SLOW = pytest.mark.slow
NARROW = ("backbone.name=narrow_resnet10", "+backbone.kwargs.width=8")
COMMANDS = {
    "pretrain": Command(pretrain, "pretrain/mnist5k/mixbt.yaml", NARROW, PretrainConfig),
    "linear": Command(
        linear.linear,
        "linear/mnist5k.yaml",
        (*NARROW, "pretrained_feature_extractor=x.ckpt"),
        LinearConfig,
    ),
    "knn": Command(knn.knn, "knn/default.yaml", ("pretrained_checkpoint=x.ckpt",), KNNConfig),
    "export": Command(
        export.export, "export/default.yaml", ("pretrained_checkpoint=x.ckpt",), ExportConfig
    ),
    "embed": Command(
        embed.embed, "embed/default.yaml", ("pretrained_checkpoint=x.ckpt",), EmbedConfig
    ),
    "diagnose": Command(
        *(diagnose.diagnose, "diagnose/default.yaml"),
        ("pretrained_checkpoint=x.ckpt",),
        DiagnoseConfig,
    ),
    "compare": Command(compare.compare, "compare/mnist5k.yaml", (), CompareConfig),
}


def members(annotation: Any, metadata: Any = ()) -> Iterator[tuple[Any, list[Any]]]:
    """The types of a union, each with its limits."""
    if get_origin(annotation) is Annotated:
        inner, *limits = get_args(annotation)
        yield from members(inner, [*metadata, *limits])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from members(one, metadata)
    else:
        yield annotation, list(metadata)


def wrong_values(annotation: Any, metadata: Any) -> Iterator[tuple[str, Any]]:
    """Values that a key of this type does not take."""
    kinds = list(members(annotation, metadata))
    types = {get_origin(kind) or kind for kind, _ in kinds}
    if not types & {str, Any}:
        yield "wrong type", "no such value!"
        yield "typing error", "ture"
    if dict not in types:
        yield "wrong type", {"a": 1}
    if list not in types or any(
        isinstance(limit, MinLen) for _, limits in kinds for limit in limits
    ):
        yield "empty list", []
    if list in types and not types & {str, int}:
        yield "wrong type", [{"a": 1}]
    if types <= {str, NoneType}:
        yield "wrong type", 5
    if not types & {int, float, list}:
        yield "out of range", 12345.5
        yield "huge", 10**40
    if not types & {NoneType, dict}:
        yield "null", None
    numbers = [(kind, limits) for kind, limits in kinds if kind in (int, float)]
    if numbers:
        yield from (("out of range", value) for value in (float("nan"), float("inf")))
        if bool not in types:
            yield "wrong type", True
    lows: list[Any] = [one.ge for _, limits in numbers for one in limits if isinstance(one, Ge)]
    lows += [one.gt for _, limits in numbers for one in limits if isinstance(one, Gt)]
    if numbers and len(lows) >= len(numbers):
        yield "out of range", min(lows) - 1
    highs = [limit for _, limits in numbers for limit in limits if isinstance(limit, (Le, Lt))]
    if numbers and len(highs) >= len(numbers):
        yield "huge", 10**40
    if numbers and all(kind is int for kind, _ in numbers):
        yield "wrong type", 1.5


def of_keys(declared: type[Section], prefix: str, also: dict[str, Any]) -> Iterator[Wrong]:
    for name, field in dotted(declared).items():
        for kind, value in wrong_values(field.annotation, field.metadata):
            yield Wrong(kind, prefix + name, value, also)
        path, dot, key = name.rpartition(".")
        yield Wrong("unknown key", f"{prefix}{path}{dot}{key}_", 1, also)
        yield Wrong("unknown key", f"{prefix}{path}{dot}{key[::-1]}x", 1, also)


@cache
def wrongs(command: str) -> tuple[Wrong, ...]:
    """All the wrong configs of a command."""
    found = list(of_keys(COMMANDS[command].declared, "", {}))
    if command in ("pretrain", "linear"):
        for key in COMMANDS[command].declared.refused:
            found.append(Wrong("Lightning's", key, 1, {}))
        for name, kwargs in OPTIMIZER_KWARGS.items():
            also = {"optimizer.name": name, "optimizer.kwargs": {}}
            found += of_keys(kwargs, "optimizer.kwargs.", also)
    if command == "pretrain":
        found += of_keys(Pipeline, "view.", {})
        for info in list_methods(baselines=True):
            widths = {"proj_hidden_dim": 32, "proj_output_dim": 32}
            also = {"method": info.name, "method_kwargs": widths}
            found += of_keys(info.method.Settings, "method_kwargs.", also)
    if command == "compare":
        found += of_keys(CompareArm, "arms.mixbt.", {})
    return tuple(found)


@cache
def good(command: str) -> DictConfig:
    described = COMMANDS[command]
    cfg = composed(described.config, *described.overrides)
    OmegaConf.set_struct(cfg, False)
    return cfg


def outcome(command: str, wrong: Wrong | None) -> str:
    """How a command answers: refused, started, or by which error of others."""
    cfg = good(command).copy()
    for key, value in {**wrong.also, wrong.key: wrong.value}.items() if wrong else ():
        OmegaConf.update(cfg, key, value, merge=False, force_add=True)
    try:
        COMMANDS[command].run(cfg)
    except StartedError:
        return "started"
    except ConfigError as error:
        named = wrong is None or wrong.key in str(error)
        return "refused" if named else f"not named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ended"


@pytest.fixture(autouse=True)
def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch)
    Path("x.ckpt").touch()


def stub(patch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> None:
        raise StartedError

    patch.setattr(Trainer, "fit", start)
    patch.setattr(linear, "load_backbone", start)
    for command in (knn, export, embed, diagnose):
        patch.setattr(command, "load_pretrained", start)
    patch.setattr(compare, "check_arms", start)
    # Reading all packages' own for each config takes half of the time.
    patch.setattr(registry, "entry_points", lambda **_: ())


@pytest.mark.parametrize("command", COMMANDS)
def test_the_config_that_is_broken_below_is_good(command: str) -> None:
    assert outcome(command, None) == "started"


@pytest.mark.parametrize(
    "command,every",
    [*((c, 20) for c in COMMANDS), *(pytest.param(c, 1, marks=SLOW) for c in COMMANDS)],
)
def test_wrong_configs_are_refused_by_name(command: str, every: int) -> None:
    answers = {str(wrong): outcome(command, wrong) for wrong in wrongs(command)[::every]}
    assert {wrong: answer for wrong, answer in answers.items() if answer != "refused"} == {}


def test_there_are_more_than_a_thousand() -> None:
    assert sum(len(wrongs(command)) for command in COMMANDS) > 1000


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        stub(patch)
        patch.chdir(folder)
        Path("x.ckpt").touch()
        print("| command | what is wrong | answer | configs |\n|---|---|---|---:|")
        for command in COMMANDS:
            with redirect_stdout(StringIO()):
                answers = Counter((one.kind, outcome(command, one)) for one in wrongs(command))
            for (kind, answer), count in sorted(answers.items()):
                print(f"| {command} | {kind} | {answer} | {count} |")
