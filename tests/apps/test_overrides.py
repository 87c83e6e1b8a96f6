"""What the commands make of overrides, and how they end."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch.utils.data import DataLoader, Dataset

from mixbt_plugin.apps import knn
from mixbt_plugin.apps.checkpointer import NotFiniteError
from mixbt_plugin.apps.overrides import with_quoted_paths
from mixbt_plugin.data import UnreadableImageError

PATHS = (
    *("runs/x-ep=1.ckpt", "a=b/c=d.ckpt", "run (1)/x.ckpt", "a,b.ckpt", "[x]/y", "{a: b}", "2012"),
    *("it's/x=1.ckpt", "x:y=1", "a b", "plain/x.ckpt", "true", "tmp/#1=x", "~/x=1", "ü/ö=1"),
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key", ["pretrained_checkpoint", "data.train_path", "+checkpoint.dir"])
def test_a_path_arrives_as_it_was_typed(key: str, path: str) -> None:
    (word,) = with_quoted_paths([f"{key}={path}"])
    override = OverridesParser.create().parse_override(word)
    assert override.key_or_group == key.lstrip("+")
    assert override.value() == os.path.expanduser(path)
    assert with_quoted_paths([word]) == [word]


def test_images_are_a_path_and_numbers_of_images_are_not() -> None:
    path, *others = words = ["images=ph=1, x", "diagnostics.images=1024", "budget.unit=images"]
    quoted, *rest = with_quoted_paths(words)
    assert OverridesParser.create().parse_override(quoted).value() == "ph=1, x" and path != quoted
    assert rest == others


def test_null_interpolations_and_other_keys_stay() -> None:
    words = [
        *("data.val_path=null", "checkpoint.dir=${oc.env:HOME}/x", "optimizer.lr=1,2", "a=b=c"),
        *("--config-path=x=y", "data.train_path='x=1'", 'data.val_path="a,b"'),
    ]
    assert with_quoted_paths(words) == words


def test_a_sweep_goes_through_paths() -> None:
    words = ["-m", "pretrained_feature_extractor=x-ep=1.ckpt,x-ep=2.ckpt", "checkpoint.dir=a,b"]
    flag, quoted, plain = with_quoted_paths(words)
    override = OverridesParser.create().parse_override(quoted)
    assert [str(value) for value in override.sweep_string_iterator()] == [
        "'x-ep=1.ckpt'",
        "'x-ep=2.ckpt'",
    ]
    assert [flag, plain] == ["-m", "checkpoint.dir=a,b"]


@pytest.mark.parametrize(
    "command,words,missing",
    [
        ("knn", ["pretrained_checkpoint=x-ep=1.ckpt"], "x-ep=1.ckpt"),
        ("export", ["pretrained_checkpoint=x-ep=1.ckpt"], "x-ep=1.ckpt"),
        (
            "linear",
            ["--config-name", "mnist5k", "pretrained_feature_extractor=x-ep=1.ckpt"],
            "x-ep=1.ckpt",
        ),
    ],
)
def test_commands_read_it(
    command: str,
    words: list[str],
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mixbt_plugin.apps import commands

    monkeypatch.setattr(sys, "argv", [command, *words])
    assert not Path(missing).exists()
    with pytest.raises((SystemExit, FileNotFoundError)) as stopped:
        getattr(commands, command)()
    said = capsys.readouterr().err + str(stopped.value)
    assert missing in said and "mismatched input" not in said


def stopped_with(
    command: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> tuple[Any, str]:
    """Exit status and what is said to the user."""
    from mixbt_plugin.apps import commands

    monkeypatch.setattr(sys, "argv", [command, *words])
    with pytest.raises(SystemExit) as stopped:
        getattr(commands, command)()
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "command,config,word,message",
    [
        (
            "pretrain",
            "mnist5k/mixbt",
            "optimizer.lrr=1",
            "optimizer.lrr is not a key: did you",
        ),
        ("pretrain", "mnist5k/mixbt", "viev.crop_size=8", "viev is not a key"),
        ("linear", "mnist5k", "data.augmentations.crop=8", "data.augmentations.crop is not a key"),
        ("knn", "default", "temprature=1", "temprature is not a key: did you mean temperature?"),
        ("export", "default", "formt=timm", "formt is not a key: did you mean format?"),
        ("embed", "default", "image=x", "image is not a key: did you mean images?"),
        ("compare", "mnist5k", "budget.amont=1", "budget.amont is not a key: did you mean amount"),
        ("compare", "mnist5k", "overrides=['lrr=1']", "arms.barlow_twins: lrr is not a key"),
        ("knn", "default", "k=[", "k=["),
        ("knn", "nope", "k=1", "Cannot find primary config 'nope'"),
    ],
)
def test_what_hydra_refuses_is_one_message(
    command: str,
    config: str,
    word: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _, name = config.rpartition("/")
    path = ["--config-path", f"{command}/{folder}"] if folder else []
    words = [*path, "--config-name", name, word]
    status, said = stopped_with(command, words, monkeypatch, capsys)
    assert status == 2
    assert said.startswith(f"mixbt-{command}: ")
    assert message in said and "Traceback" not in said


def test_a_key_that_the_config_does_not_hold_needs_no_plus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the key's value that is refused."""
    words = ["--config-path", "pretrain/mnist5k", "--config-name", "mixbt"]
    words += ["method_kwargs.mix_alpha=-1", "backbone.kwargs.width=8"]
    _, said = stopped_with("pretrain", words, monkeypatch, capsys)
    assert "method_kwargs.mix_alpha=-1" in said


OWN_PIPELINE = "augmentations=[{rrc:{enabled:false},crop_size:16,num_crops:2}]"


@pytest.mark.parametrize(
    "recipe,words,refused",
    [
        ("mnist5k/mixbt", [OWN_PIPELINE, "view.crop_size=8"], "view.crop_size=8"),
        (
            "cifar/multiaug_mixbt",
            ["augmentations=[${view}]", "further_views.num_crops=6"],
            "further",
        ),
        (
            "parity/fastssl/imagenet100/multiaug_barlow_twins_2views",
            ["method_kwargs.lamb=1", "lambs.512=1"],
            "lambs",
        ),
    ],
)
def test_an_override_that_another_one_leaves_unread_is_refused(
    recipe: str,
    words: list[str],
    refused: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _, name = recipe.rpartition("/")
    path = ["--config-path", folder if "/" in folder else f"pretrain/{folder}"]
    status, said = stopped_with(
        "pretrain", [*path, "--config-name", name, *words], monkeypatch, capsys
    )
    assert status == 2
    assert said.startswith(f"mixbt-pretrain: {refused}") and "nothing reads" in said


def test_in_an_arm_of_a_comparison_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = f'arms.mixbt.overrides=["{OWN_PIPELINE}","view.crop_size=8"]'
    status, said = stopped_with(
        "compare", ["--config-name", "mnist5k", overrides], monkeypatch, capsys
    )
    assert (status, "arms.mixbt: view.crop_size=8: nothing reads view" in said) == (2, True), said


class Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        raise UnreadableImageError("a.png: is no image.")


def reads_in_a_process(cfg: Any) -> None:
    list(DataLoader(Broken(), num_workers=1))


def stops(cfg: Any) -> None:
    raise NotFiniteError("step 3: not finite.")


@pytest.mark.parametrize(
    "task,status,message",
    [(reads_in_a_process, 2, "a.png: is no image."), (stops, 1, "step 3: not finite.")],
)
def test_an_end_that_is_known_is_one_message(
    task: Any,
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(knn, "task", task)
    assert stopped_with("knn", [], monkeypatch, capsys) == (status, f"mixbt-knn: {message}\n")
