"""``mixbt-compare``: arms over seeds, interrupted, resumed and added to; and what it refuses."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from mixbt_plugin.apps.compare import compare
from mixbt_plugin.apps.comparison import running
from mixbt_plugin.apps.comparison.arms import SAID_BY, check_arms, parsed
from mixbt_plugin.apps.comparison.evaluator import COLUMNS
from mixbt_plugin.apps.comparison.images import NetworkOutputs, evaluation_images
from mixbt_plugin.apps.comparison.measures import accuracies, ranks, spectra
from mixbt_plugin.apps.comparison.one_run import train_and_measure
from mixbt_plugin.apps.comparison.plan import (
    Run,
    epochs_within,
    evaluated_epochs,
    plan_runs,
    seconds_per_epoch,
)
from mixbt_plugin.apps.comparison.table import interval
from mixbt_plugin.apps.schema import checked_comparison
from mixbt_plugin.data import as_tensor, pretrain_dataset
from mixbt_plugin.keys import CompareEvaluation
from mixbt_plugin.settings import ConfigError
from tests.apps.comparing import PROBES, SMALL, arms, comparison
from tests.apps.composing import composed

EXAMPLE = Path(__file__).parents[2] / "examples" / "comparison.yaml"


def test_what_stops_a_comparison_stops_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SIGTERM, which the command makes a SystemExit."""
    program = tmp_path / "program"
    program.write_text(
        "#!/bin/sh\ntrap 'touch stopped; exit' TERM\ntouch started\nwhile :; do sleep 0.1; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    run = Run(tmp_path / "run", "a", 1, [1], "wall", None, "", {})

    def stop() -> None:
        while not Path("started").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        threading.Thread(target=stop).start()
        with pytest.raises(SystemExit):
            running.train_all([run], tmp_path, 1, 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert Path("stopped").exists()


class StopBefore(Callback):
    """An interruption."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            raise InterruptedError


@pytest.mark.slow
def test_a_comparison_goes_on_within_a_run_and_takes_further_arms() -> None:
    """Stopped before the third of three epochs, it has the rows of one that was not."""
    changes = {"budget__amount": 3, "evaluation__epochs": [2, 3], "arms": arms("hsic_ssl")}
    whole = compare(comparison(**changes)).rows
    assert list(whole.epoch.unique()) == [0, 2, 3]
    assert list(pd.read_csv("out/results.csv").columns) == list(COLUMNS)
    assert list(whole.steps.unique()) == [0, 4, 6] and whole.images.max() == 6 * 64
    assert whole.seconds.is_monotonic_increasing

    run = Run.read(Path("out/runs/hsic_ssl/seed1").resolve())
    run.folder = Path("stopped/runs/hsic_ssl/seed1").resolve()
    run.cfg["checkpoint"]["dir"] = str(run.folder)
    run.write()
    with pytest.raises(InterruptedError):
        train_and_measure(run, [StopBefore(2)])
    assert not run.is_done()
    resumed = compare(comparison(**changes, output_dir="stopped")).rows
    assert same(resumed, whole)
    assert "ep1.ckpt" in (run.folder / "log.txt").read_text()

    measured = (run.folder / "measures.csv").stat().st_mtime_ns
    written: Any = OmegaConf.load(run.folder / "run.yaml")
    del written.cfg.diagnostics  # as of a version that did not have it
    OmegaConf.save(written, run.folder / "run.yaml")
    changes["arms"] = arms("hsic_ssl", "vicreg")
    both = compare(comparison(**changes, output_dir="stopped"))
    assert list(both.arms) == ["hsic_ssl", "vicreg"]
    assert (run.folder / "measures.csv").stat().st_mtime_ns == measured
    for name in ("accuracy", "loss", "spectra"):
        assert Path(f"stopped/{name}.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="holds a run with .*max_epochs=3, and .* has 4"):
        compare(comparison(**{**changes, "budget__amount": 4}, output_dir="stopped"))


TWO_PROCESSES = """
import sys
from pathlib import Path

from mixbt_plugin.apps.comparison.one_run import train_and_measure
from mixbt_plugin.apps.comparison.plan import Run
from tests.apps.test_compare import StopBefore

train_and_measure(Run.read(Path(sys.argv[1])), [StopBefore(2)])
"""


@pytest.mark.slow
def test_a_run_on_two_processes_is_measured_and_goes_on(tmp_path: Path) -> None:
    """One process measures while the other waits; stopped before the third of three epochs."""
    two = ["devices=2", "strategy=ddp", "method_kwargs.ddp=exact"]
    asked = {"mixbt": {"config": "pretrain/photo_patches/mixbt", "overrides": two}}
    changes = {"budget__amount": 3, "evaluation__epochs": [2, 3], "arms": asked}
    whole = ended(comparison(**changes))
    assert list(whole.epoch.unique()) == [0, 2, 3]
    assert list(whole.steps.unique()) == [0, 4, 6] and whole.images.max() == 6 * 64 * 2

    run = Run.read(Path("out/runs/mixbt/seed1").resolve())
    run.folder = Path("stopped/runs/mixbt/seed1").resolve()
    run.cfg["checkpoint"]["dir"] = str(run.folder)
    run.write()
    (tmp_path / "stopped.py").write_text(TWO_PROCESSES)
    command = [sys.executable, str(tmp_path / "stopped.py"), str(run.folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    stopped = subprocess.run(command, env=environment, timeout=240, capture_output=True, text=True)
    assert stopped.returncode != 0 and "InterruptedError" in stopped.stderr
    assert not run.is_done()
    assert same(ended(comparison(**changes, output_dir="stopped")), whole)
    assert "ep1.ckpt" in (run.folder / "log.txt").read_text()


def ended(cfg: Any) -> pd.DataFrame:
    """The rows of a comparison, which is given up where its processes wait for ever."""

    def give_up(*_: Any) -> None:
        pytest.fail("the processes wait for each other")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(240)
    try:
        return compare(cfg).rows
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def same(rows: pd.DataFrame, others: pd.DataFrame) -> bool:
    """Equal but for the time that they took."""
    keys = ["arm", "seed", "epoch", "steps", "images", "measure", "value"]
    return bool(rows[keys].reset_index(drop=True).equals(others[keys].reset_index(drop=True)))


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"arms": {}}, "arms={}: expected at least one arm"),
        ({"arms": {"a": {"config": "pretrain/mnist5k/mixbtt"}}}, "arms.a: config=.*no mixbtt.yaml"),
        ({"arms": {"a": {"config": "pretrain/mnist/mixbt"}}}, "arms.a: config=.*no such folder"),
        ({"arms": {"../x": {"config": "pretrain/mnist5k/mixbt"}}}, "arms[.]{3}/x: expected a name"),
        ({"arms": {"8_views": {"config": "x"}}}, "arms.8_views: .* does not begin with a digit"),
        ({"arms": {"a": {"confg": "x"}}}, "arms.a.confg is not a key of mixbt-compare: did you"),
        ({"seeds": [1, 1]}, "seeds=.1, 1.: expected different ones"),
        ({"overrides": ["max_epoch=3"]}, "arms.barlow_twins: .*max_epoch"),
        ({"overrides": ["+method_kwargs.lamb=-1"]}, "arms.barlow_twins: method_kwargs.lamb=-1"),
        ({"overrides": ["++max_steps=9"]}, "arms.barlow_twins: max_steps=9: budget says"),
        ({"overrides": ["max_epochs=3"]}, "arms.barlow_twins: max_epochs=3: .*, by budget.amount;"),
        ({"overrides": ["~knn_eval"]}, "arms.barlow_twins: ~knn_eval: .* by evaluation"),
        ({"overrides": ["++checkpoint.keep_prev=True"]}, "arms.bar.*keep_prev=True: .* output_dir"),
        ({"jobs": 0}, "jobs=0: expected a whole number of at least 1"),
        ({"budget__unit": "hours"}, "budget.unit='hours': expected one of epochs, steps"),
        ({"budget__amount": 0}, "budget.amount=0: expected a number above 0"),
        ({"budget__amount": 1.5}, "budget.amount=1.5: expected a whole number"),
        ({"evaluation__epochs": [2]}, "evaluation.epochs=.2.: the last epoch is 1"),
        ({"evaluation__epochs": 0}, "evaluation.epochs=0: expected a whole number of at least 1"),
        ({"evaluation__knn_k": 0}, "evaluation.knn_k=0: expected a whole number of at least 1"),
        ({"evaluation__knn_temperature": 0}, "evaluation.knn_temperature=0: expected a number abo"),
        ({"evaluation__labels_per_class": 301}, "labels_per_class=301: a class has only 300"),
        ({"evaluation__linear_labels": 9999}, "linear_labels=9999: there are only 4500"),
        (
            {"evaluation__split": "validation"},
            "fraction=-1: .*sees 4500 of 4500.* 765 .*smaller data.frac",
        ),
        ({"budget__unit": "seconds", "evaluation__epochs": [1]}, "expected a number of evaluat"),
        (
            {"budget__unit": "steps", "overrides": [*SMALL, "limit_train_batches=0.001"]},
            "limit_train_batches=0.001: leaves none of an epoch's",
        ),
        (
            {"budget__unit": "steps", "overrides": [*SMALL, "optimizer.batch_size=9999"]},
            "optimizer.batch_size=9999: the training set has only",
        ),
        (
            {"budget__unit": "steps", "budget__amount": 3},
            "arms.barlow_twins: budget.amount=3: an epoch has 2 steps, so that 2 would come nearest"
            ", with 4; expected a multiple",
        ),
        ({"budget__unit": "images", "budget__amount": 64}, "epoch has 128 images, .* limit_train"),
        ({"seeds": []}, "seeds=.*: expected whole numbers of .*, at least one"),
        ({"view": {"crop_size": 8}}, "view is a key of recipes: expected overrides="),
        ({"overrides": ["limit_val_batches=2"]}, "limit_val_batches=2: evaluation replaces"),
        ({"overrides": ["hydra.run.dir=x"]}, "hydra.run.dir=x: an arm is composed, not run"),
        ({"overrides": ["num_nodes=2"]}, "num_nodes=2: .* on this machine; expected 1"),
        (
            {"overrides": [*SMALL, "diagnostics.enabled=true", "diagnostics.images=3"]},
            "diagnostics.images=3: expected at least a batch for each process, 64",
        ),
        (
            {"overrides": ["pretrained_feature_extractor=x-ep=0.ckpt"]},  # as solo-learn calls it
            "arms.barlow_twins: x-ep=0.ckpt: no such checkpoint",
        ),
        ({"overrides": ["method_kwargs.lamb=(1"]}, r"arms.barlow_twins: method_kwargs.lamb=\(1: "),
        (
            {"budget__clock": "cpu", "overrides": ["data.num_workers=2"]},
            "arms.barlow_twins: data.num_workers=2 with budget.clock=cpu: it counts one process",
        ),
        ({"evaluation__linear_labels": 14}, "linear_labels=14: .* expected 15 to 4485, or null"),
        ({"evaluation__linear_labels": 4486}, "linear_labels=4486: .* expected 15 to 4485, or"),
        ({"evaluation__knn_k": 4501}, "evaluation.knn_k=4501: there are only 4500"),
        (
            {
                "arms": {**arms("mixbt"), "other": {"config": "pretrain/mnist5k/mixbt"}},
                "overrides": [],
            },
            "arms.other: is measured on other images than arms.mixbt; expected the same data.data",
        ),
        (
            {
                "arms": {
                    name: {
                        "config": "pretrain/photo_patches/mixbt",
                        "overrides": [f"data.fraction={share}"],
                    }
                    for name, share in (("half", 0.5), ("quarter", 0.25))
                },
                "evaluation__split": "validation",
            },
            "arms.quarter: is measured on other images than arms.half",
        ),
    ],
)
def test_refusals_come_before_training(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(comparison(**changes))
    assert not Path("out").exists()


@pytest.fixture
def own_images() -> DictConfig:
    """The example of a comparison of own images, beside 40 of each of two classes."""
    for number, folder in enumerate(("train/cats", "train/dogs", "val/cats", "val/dogs")):
        (Path("photos") / folder).mkdir(parents=True)
        for copy in range(40):
            grey = np.full((40, 40), number * 60 + copy, np.uint8)
            Image.fromarray(grey).save(Path("photos") / folder / f"{copy}.png")
    return composed(EXAMPLE)


def test_the_comparison_of_own_images_is_accepted(own_images: DictConfig) -> None:
    asked = checked_comparison(own_images)
    arms = check_arms(asked)
    assert list(arms) == ["barlow_twins", "mixbt", "mixbt_reg4", "four_views"]
    assert arms["mixbt_reg4"].cfg.method_kwargs.lamb_reg == 4
    assert epochs_within(asked, arms, {}) == dict.fromkeys(arms, 20)


@pytest.mark.parametrize(
    "override,message",
    [
        ("data.no_labels=True", "no_labels=True, .*: a comparison measures with labelled images"),
        ("data.val_path=null", "val_path=None: a comparison measures with labelled images"),
        ("data.train_path=nowhere", "data.train_path='nowhere': no such folder"),
        ("optimizer.batch_size=999", "optimizer.batch_size=999: the training set has only 80"),
    ],
)
def test_refusals_of_own_images(own_images: DictConfig, override: str, message: str) -> None:
    own_images.overrides.append(override)
    with pytest.raises(ConfigError, match=f"arms.barlow_twins: .*{message}"):
        check_arms(checked_comparison(own_images))


def test_folders_without_two_classes_are_refused(own_images: DictConfig) -> None:
    for folder in ("train", "val"):
        shutil.rmtree(f"photos/{folder}/cats")
    own_images.overrides.append("optimizer.batch_size=8")
    with pytest.raises(ConfigError, match="data.train_path: .* tell classes apart, and there is o"):
        check_arms(checked_comparison(own_images))


@pytest.mark.parametrize("unit,amount", [("epochs", 3), ("steps", 6)])
def test_an_own_recipe_needs_no_max_epochs(unit: str, amount: float) -> None:
    """The budget says it, and the schedule is looked at with the budget's number."""
    recipe: Any = OmegaConf.to_container(composed("pretrain/photo_patches/mixbt.yaml", *SMALL))
    del recipe["max_epochs"]
    recipe["scheduler"]["warmup_epochs"] = 10
    OmegaConf.save(OmegaConf.create(recipe), "mine.yaml")
    asked = checked_comparison(
        comparison(
            arms={"mine": {"config": "./mine.yaml"}},
            overrides=[],
            budget={"unit": unit, "amount": amount},
        )
    )

    def runs() -> list[Run]:
        checked = check_arms(asked)
        return plan_runs(asked, checked, epochs_within(asked, checked, {}))

    with pytest.warns(UserWarning, match="warmup_epochs=10 is longer than max_epochs=3"):
        (run,) = runs()
    assert run.cfg["max_epochs"] == 3


def test_a_comparison_sets_the_keys_that_it_refuses() -> None:
    asked = checked_comparison(comparison())
    (run, *_) = plan_runs(asked, check_arms(asked), {"barlow_twins": 3, "mixbt": 3})
    recipe = composed(f"{asked.arm('barlow_twins').config}.yaml", *asked.overrides)
    read: Any = OmegaConf.to_container(recipe)
    assert {key for key in run.cfg if run.cfg[key] != read.get(key)} == set(SAID_BY)


@pytest.mark.parametrize(
    "wanted,last,epochs",
    [
        (4, 8, [0, 2, 4, 6, 8]),
        (10, 3, [0, 1, 2, 3]),
        ([5, 2], 8, [0, 2, 5, 8]),
    ],
)
def test_epochs_of_evaluations(wanted: int | list[int], last: int, epochs: list[int]) -> None:
    assert evaluated_epochs(wanted, last) == epochs


@pytest.mark.parametrize("unit,amount,epochs", [("steps", 21, 10), ("images", 1300, 10)])
def test_steps_and_images_become_the_nearest_whole_epochs(
    unit: str, amount: float, epochs: int
) -> None:
    """An epoch of these arms has two steps of 64 images."""
    wanted = checked_comparison(comparison(budget__unit=unit, budget__amount=amount))
    found = epochs_within(wanted, check_arms(wanted), {})
    assert found == {"barlow_twins": epochs, "mixbt": epochs}


@pytest.mark.slow
def test_seconds_become_epochs_by_the_speed_that_is_measured_first() -> None:
    changes = {"budget__unit": "seconds", "budget__amount": 1e-3, "arms": arms("mixbt")}
    results = compare(comparison(**changes))
    assert results.arms == {"mixbt": 1}
    assert seconds_per_epoch(Run.read(Path("out/speed/mixbt").resolve())) > 0


def test_validation_images_are_neither_learned_from_nor_pre_trained_on() -> None:
    changes = {"evaluation__split": "validation", "overrides": [*SMALL, "data.fraction=0.5"]}
    wanted = checked_comparison(comparison(**changes))
    cfg = parsed(check_arms(wanted)["mixbt"].cfg)
    images: Any = evaluation_images(cfg, wanted.evaluation)
    trained: Any = pretrain_dataset(cfg, as_tensor)
    held_out = set(images.classified.indices)
    seen = {int(trained[place][0]) for place in range(len(trained))}
    assert (len(held_out), len(seen)) == (750, 2250)
    assert not held_out & seen and not held_out & set(images.references.indices)
    assert len(held_out | set(images.references.indices)) == 4500


def test_probes_tell_separate_classes_from_mixed_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(400) % 4
    noise = torch.randn(400, 6, generator=generator)
    centres = 30 * torch.eye(4, 6)[targets]
    evaluation = CompareEvaluation(**PROBES)

    def found(features: torch.Tensor) -> dict[str, float]:
        half = NetworkOutputs(features[:200], None, targets[:200])
        return accuracies(half, NetworkOutputs(features[200:], None, targets[200:]), evaluation)

    separate = found(centres + noise)
    assert separate["knn"] == separate["linear"] == 100 and separate["few_labels"] > 95
    assert all(10 < value < 40 for value in found(noise).values())  # chance is 25 %


def test_spectra_of_known_variances_and_correlations() -> None:
    z = torch.linalg.qr(torch.randn(64, 4, dtype=torch.float64))[0]
    z = torch.linalg.qr(z - z.mean(0))[0]
    found = spectra(NetworkOutputs(z * torch.tensor([3.0, 2, 1, 0]), z * 5, torch.zeros(64)))
    np.testing.assert_allclose(found["features"], np.array([9, 4, 1, 0]) / 14, atol=1e-12)
    np.testing.assert_allclose(found["embeddings"], np.full(4, 0.25), atol=1e-12)
    assert ranks(found)["rank_embeddings"] == pytest.approx(4, abs=1e-4)


def test_interval_of_paired_differences() -> None:
    """By hand: mean 2, deviation 1, n 3; t(0.975, 2) = 4.3027."""
    half = 4.3027 / math.sqrt(3)
    assert interval(pd.Series([1.0, 2.0, 3.0])) == f"+2.0 [{2 - half:+.1f}, {2 + half:+.1f}]"
    assert interval(pd.Series([1.0])) == "+1.0"
