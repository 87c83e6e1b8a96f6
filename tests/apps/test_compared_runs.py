"""The runs of a comparison as processes: what ends them, how they go on, what they count."""

from __future__ import annotations

import fcntl
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

from mixbt_plugin import __version__
from mixbt_plugin.apps.compare import compare
from mixbt_plugin.apps.comparison import plan
from mixbt_plugin.apps.comparison.one_run import train_and_measure
from mixbt_plugin.apps.comparison.plan import Run, code_version
from mixbt_plugin.apps.comparison.running import LOCK_FILE, Failure, train_all
from mixbt_plugin.settings import ConfigError, RunError
from tests.apps.comparing import SMALL, arms, comparison, planned
from tests.images import image_folder


class Stop(Callback):
    """An interruption, after an epoch's measures and before its checkpoint."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch + 1 == self.after:
            raise InterruptedError


def test_a_run_without_its_last_checkpoint_is_not_done() -> None:
    (run,) = planned(arms=arms("mixbt"), budget__amount=2)
    with pytest.raises(InterruptedError):
        train_and_measure(run, [Stop(after=2)])
    assert pd.read_csv(run.folder / "measures.csv").epoch.max() == 2
    assert not run.is_done()
    train_and_measure(run)
    assert run.is_done()
    (checkpoint,) = run.folder.glob("*/version_1/*.ckpt")
    assert "ep1" in checkpoint.name


def test_a_run_goes_on_when_its_images_have_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder(tmp_path / "here")
    overrides = ["backbone.name=narrow_resnet10", "devices=1", "data.num_workers=0"]
    sizes = ["optimizer.batch_size=32", "view.crop_size=8", "precision=32"]

    def found_at(place: Path) -> Run:
        paths = [f"data.{split}_path={place}/{split}" for split in ("train", "val")]
        return planned(
            arms={"mine": {"config": "pretrain/custom/mixbt"}},
            overrides=[*overrides, *sizes, *paths],
            budget__amount=3,
            evaluation__linear_labels=30,
        )[0]

    with pytest.raises(InterruptedError):
        train_and_measure(found_at(tmp_path / "here"), [Stop(after=3)])
    shutil.move(tmp_path / "here", tmp_path / "there")
    capsys.readouterr()
    train_and_measure(found_at(tmp_path / "there"))
    assert "version_0" in capsys.readouterr().out.partition("resume")[2].splitlines()[0]


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_images_are_counted_by_batches_in_every_precision(precision: str) -> None:
    """Of three batches two make the first step, and one makes the last."""
    accumulated = ["accumulate_grad_batches=2", "limit_train_batches=3", f"precision={precision}"]
    (run,) = planned(arms=arms("mixbt"), overrides=[*SMALL, *accumulated])
    train_and_measure(run)
    rows = pd.read_csv(run.folder / "measures.csv")
    assert list(rows.steps.unique()) == [0, 2] and list(rows.images.unique()) == [0, 3 * 64]
    assert all(map(math.isfinite, rows.value))


def test_a_second_comparison_is_kept_out_of_the_folder(tmp_path: Path) -> None:
    (run,) = planned(arms=arms("mixbt"))
    with (tmp_path / LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="output_dir=.*: another mixbt-compare is at work"):
            train_all([run], tmp_path, 1, 1)
    assert not (run.folder / "log.txt").exists()


COMPARISON = """
from mixbt_plugin.apps.compare import task
from tests.apps.comparing import arms, comparison

task(comparison(arms=arms("mixbt"), budget__amount=100_000, evaluation__epochs=1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_runs_end_with_the_comparison(tmp_path: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", COMPARISON]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    waiting = time.monotonic() + 200
    while not list(Path("out").glob("runs/mixbt/seed1/mixbt/version_0/*.ckpt")):
        assert process.poll() is None and time.monotonic() < waiting
        time.sleep(0.2)
    process.send_signal(number)
    printed, _ = process.communicate(timeout=100)
    if number == signal.SIGINT:
        assert process.returncode == 130 and "the same command goes on" in printed
    with Path("out", LOCK_FILE).open("w") as file:
        while True:  # until the last of its processes has ended
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < waiting
                time.sleep(0.2)


@pytest.mark.slow
def test_a_run_that_fails_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    diverging = {"config": "pretrain/photo_patches/mixbt", "overrides": ["optimizer.lr=1e30"]}
    cfg = comparison(arms={"first": diverging, **arms("hsic_ssl")}, jobs=2)
    with pytest.raises(
        RunError, match=r"1 of the runs failed; see\n.*runs/first/seed1/log.txt\n.+"
    ):
        compare(cfg)
    table = Path("out/table.md").read_text()
    assert "− first" in table and "| hsic_ssl | 1 |" in table
    assert table.endswith("Not there, or not yet: first with seed 1.\n")
    assert {"FAILED: first, seed 1", "done: hsic_ssl, seed 1"} == {
        line.partition(" (")[0] for line in capsys.readouterr().out.splitlines() if " of 2)" in line
    }


def test_a_killed_run_is_told_from_one_that_failed(tmp_path: Path) -> None:
    run = Run(tmp_path, "a", 1, [1], "wall", None, "", {})
    (tmp_path / "log.txt").write_text("Total FLOPs: 0\nValueError: so\n")
    assert "ended by SIGKILL" in Failure(run, -9).reason() and "memory" in Failure(run, -9).reason()
    assert Failure(run, 1).reason() == "ValueError: so"


def test_the_version_is_not_of_a_repository_around_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "project" / ".venv" / "mixbt_plugin"
    package.mkdir(parents=True)
    commit = "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a"
    subprocess.run(commit, shell=True, cwd=tmp_path / "project", check=True)
    monkeypatch.setattr(plan, "PACKAGE", package)
    assert code_version.__wrapped__() == __version__
    monkeypatch.setattr(plan, "PACKAGE", tmp_path / "project" / "mixbt_plugin")
    (tmp_path / "project" / "mixbt_plugin").mkdir()
    assert code_version.__wrapped__().startswith(f"{__version__}+g")


@pytest.mark.parametrize("package", ["matplotlib", "pandas", "scipy"])
def test_a_missing_package_is_named_before_anything_else(package: str) -> None:
    without = (
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        f"util.find_spec = lambda name, *a: None if name == {package!r} else find(name, *a)\n"
        "import mixbt_plugin.apps.compare\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", without], env=environment, capture_output=True, text=True
    )
    assert f"a comparison needs {package}: pip install {package}." in ended.stderr


def test_what_is_written_of_a_run_is_read_again(tmp_path: Path) -> None:
    run = Run(tmp_path / "a", "a", 1, [0, 1], "wall", None, "1", {"max_epochs": 1})
    run.write()
    assert Run.read(tmp_path / "a") == run
    assert OmegaConf.load(tmp_path / "a" / "run.yaml").arm == "a"
