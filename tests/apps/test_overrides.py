"""Any path can be given on the command line as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from mixbt_plugin.apps.overrides import with_quoted_paths

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
    assert override.value() == path
    assert with_quoted_paths([word]) == [word]


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
