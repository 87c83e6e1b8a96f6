"""A resumed run is the run that was not interrupted; no checkpoint is ever half written."""

from __future__ import annotations

import csv
import json
import logging
import multiprocessing
import os
import random
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps.checkpointer import Checkpointer
from mixbt_plugin.apps.fitting import fit
from mixbt_plugin.apps.restoring import Resumed
from mixbt_plugin.apps.resuming import checkpoint_to_resume
from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.apps.seeding import EpochSampler, SeededDataset
from mixbt_plugin.apps.training import prepare
from mixbt_plugin.checkpoints import read_checkpoint
from mixbt_plugin.data import pretrain_dataset, pretrain_transform
from mixbt_plugin.host import METHODS
from mixbt_plugin.registry import register
from tests import processes
from tests.apps.composing import composed
from tests.configs import completed_config, loader, method_config
from tests.trainers import quiet_trainer

register()


def command(*overrides: str) -> list[str]:
    return [
        "mixbt_plugin.apps.pretrain",
        *("--config-path", "pretrain/photo_patches", "--config-name", "mixbt"),
        *("max_epochs=4", "limit_train_batches=4", "limit_val_batches=1", "precision=32"),
        *("+backbone.kwargs.width=8", "optimizer.batch_size=64", "data.num_workers=1"),
        *("method_kwargs.lamb_reg=4", "+method_kwargs.lamb_reg_warmup_epochs=3"),
        *("checkpoint.keep_prev=true", *overrides),
    ]


def rows(folder: Path, first_epoch: int) -> list[dict[str, str]]:
    """What was logged from an epoch on, whatever columns it shares a file with."""
    table = csv.DictReader((folder / "metrics.csv").open())
    return [
        {key: value for key, value in row.items() if value}
        for row in table
        if int(row["epoch"] or row["step"]) >= first_epoch and row["epoch"]
    ]


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    assert type(ours) is type(theirs), where
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in ours.items():
            assert_same(value, theirs[key], f"{where}.{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), where
        for position, (one, other) in enumerate(zip(ours, theirs)):
            assert_same(one, other, f"{where}[{position}]")
    else:
        assert ours == theirs, where


@pytest.mark.slow
def test_killed_and_resumed_is_bit_identical() -> None:
    processes.run(*command("checkpoint.dir=whole"))
    (whole,) = Path("whole").rglob("*-ep3.ckpt")

    killed = processes.start(*command("checkpoint.dir=killed"))
    deadline = time.monotonic() + 120
    while not list(Path("killed").rglob("*-ep0.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(random.uniform(0, 0.5))
    killed.kill()
    assert not list(Path("killed").rglob("*-ep3.ckpt")), "it was not killed in time"

    done = processes.run(*command("checkpoint.dir=killed", "resume_from_checkpoint=auto"))
    assert "resume    killed/mixbt/version_0/" in done.stdout
    (resumed,) = Path("killed").rglob("*-ep3.ckpt")
    ours, theirs = read_checkpoint(resumed), read_checkpoint(whole)
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch"):
        assert_same(ours[key], theirs[key], key)
    assert rows(resumed.parent, 3) == rows(whole.parent, 3)
    assert len(rows(whole.parent, 3)) >= 2


def saving_trainer(folder: Path, max_epochs: int, *callbacks: Callback) -> tuple[Trainer, Any]:
    """Saves each epoch in a folder; with the method that it may train."""
    cfg = method_config("mixbt", checkpoint={"frequency": 1, "keep_prev": False})
    checkpointer: Any = Checkpointer(cfg)
    checkpointer._folder = lambda trainer: folder
    trainer = quiet_trainer(
        max_epochs=max_epochs,
        callbacks=[*callbacks, checkpointer],
        limit_train_batches=1,
    )
    return trainer, METHODS["mixbt"](cfg)


def train_until_killed(folder: str) -> None:
    torch.set_num_threads(1)
    trainer, model = saving_trainer(Path(folder), 1000)
    trainer.fit(model, loader(32))


@pytest.mark.slow
def test_every_checkpoint_loads_after_twenty_kills(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for attempt in range(20):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        writer = fork.Process(target=train_until_killed, args=(str(folder),))
        writer.start()
        while not list(folder.glob("*.ckpt")):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        writer.kill()
        writer.join()
        checkpoints = list(folder.glob("*.ckpt"))
        assert checkpoints
        for checkpoint in checkpoints:
            assert read_checkpoint(checkpoint)["state_dict"]
    torch.set_num_threads(threads)


class LimitFileSize(Callback):
    """From the second epoch on no file may grow beyond 10 KiB, as on a full disk."""

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_240, hard))


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    trainer, model = saving_trainer(tmp_path, 3, LimitFileSize())
    try:
        with pytest.raises(
            OSError, match=r"test-ep1.ckpt could not be written .* last good one is"
        ):
            trainer.fit(model, loader(32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["args.json", "test-ep0.ckpt"]
    assert read_checkpoint(tmp_path / "test-ep0.ckpt")["epoch"] == 0


def test_a_checkpoint_is_read_once_and_as_weights_alone(
    tmp_path: Path,
    files_read: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    logging.getLogger("lightning.pytorch").addHandler(caplog.handler)
    caplog.set_level(logging.INFO, "lightning.pytorch")
    trainer, model = saving_trainer(tmp_path, 1)
    trainer.fit(model, loader(32))
    resumed = Resumed(tmp_path / "test-ep0.ckpt")
    assert resumed.first_epoch == 1

    trainer, again = saving_trainer(tmp_path, 2)
    fit(trainer, again, loader(32), None, resumed)
    assert trainer.global_step == 2
    assert [read["weights_only"] for read in files_read] == [True]
    said = [*caplog.messages, *(str(warning.message) for warning in recwarn)]
    assert any("Restor" in text for text in said)
    assert not any("weights_only" in text for text in said)
    assert resumed.load_checkpoint(tmp_path / "test-ep1.ckpt")["epoch"] == 1


def saved_run(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    cfg = completed_config(changes.pop("method", "mixbt"), checkpoint={"dir": "runs"}, **changes)
    (folder / "args.json").write_text(json.dumps(OmegaConf.to_container(cfg)))
    torch.save({"state_dict": {}, "epoch": 0}, folder / "x-ep0.ckpt")
    return folder / "x-ep0.ckpt"


def path_to_resume(cfg: DictConfig) -> Path | None:
    resumed = checkpoint_to_resume(cfg, "mixbt")
    return None if resumed is None else resumed.path


def test_auto_takes_the_newest_run_of_the_whole_config() -> None:
    same = saved_run(Path("runs/mixbt/version_0"))
    newer = saved_run(Path("runs/mixbt/version_1"), checkpoint__dir="elsewhere")
    os.utime(same, (1, 1))
    saved_run(Path("runs/mixbt/version_2"), method_kwargs__lamb_reg=2.0)
    saved_run(Path("runs/mixbt/version_3"), data__dataset="cifar10")
    saved_run(Path("runs/mixbt/version_4"), method_kwargs__proj_output_dim=7)
    saved_run(Path("runs/mixbt/version_5"), max_epochs=6)
    cfg = completed_config("mixbt", checkpoint={"dir": "runs"}, resume_from_checkpoint="auto")
    assert path_to_resume(cfg) == newer
    newer.unlink()
    assert path_to_resume(cfg) == same
    same.unlink()
    assert path_to_resume(cfg) is None


@pytest.mark.parametrize(
    "changes,key",
    [
        ({"method_kwargs__proj_output_dim": 7}, "method_kwargs.proj_output_dim"),
        ({"data__dataset": "cifar10"}, "data.dataset"),
        ({"backbone__name": "resnet18"}, "backbone.name"),
        ({"method": "hsic_ssl"}, "method"),
    ],
)
def test_another_run_is_not_resumed(changes: dict[str, Any], key: str) -> None:
    checkpoint = saved_run(Path("runs/mixbt/version_0"), **changes)
    cfg = completed_config("mixbt", resume_from_checkpoint=str(checkpoint))
    with pytest.raises(ValueError, match=f"that run has {key}="):
        checkpoint_to_resume(cfg, "mixbt")


def test_what_is_no_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    whole = saved_run(tmp_path / "run")
    truncated = tmp_path / "truncated.ckpt"
    truncated.write_bytes(whole.read_bytes()[:300])
    torch.save({"state_dict": {}}, tmp_path / "weights.ckpt")
    for path, error, message in (
        (tmp_path / "weights.ckpt", ValueError, "holds no 'epoch'; weights alone cannot be"),
        (truncated, ValueError, "not a checkpoint that can be read"),
        (tmp_path / "none.ckpt", FileNotFoundError, "no such checkpoint"),
    ):
        cfg = completed_config("mixbt", resume_from_checkpoint=str(path))
        with pytest.raises(error, match=message):
            checkpoint_to_resume(cfg, "mixbt")


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"state_dict": {"backbone.x": Payload()}}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="not a checkpoint that can be read"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_an_epoch(world_size: int) -> None:
    shares = [
        [index for _, index in EpochSampler(20, 5, lambda: 1, rank, world_size)]
        for rank in range(world_size)
    ]
    assert {len(share) for share in shares} == {20 // world_size}
    together = [index for share in shares for index in share]
    assert len(set(together)) == len(together)
    assert max(together) < 20


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, int]]:
        return list(EpochSampler(50, seed, lambda: epoch))

    assert order(1, 2) == order(1, 2)
    assert [i for _, i in order(1, 2)] != [i for _, i in order(1, 3)]
    assert [i for _, i in order(1, 2)] != [i for _, i in order(2, 2)]


def test_augmentation_depends_on_seed_epoch_and_index_alone() -> None:
    cfg = composed(Path("pretrain/photo_patches/mixbt.yaml"))
    prepare(cfg, check_pretraining)
    cfg.augmentations[0].gaussian_blur.prob = 0.5
    images = pretrain_dataset(cfg, pretrain_transform(cfg))

    def view(seed: int, epoch: int, index: int) -> torch.Tensor:
        first: torch.Tensor = SeededDataset(images, seed)[epoch, index][1][0]
        return first

    state = torch.get_rng_state(), random.getstate()
    reference = view(1, 2, 3)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1] == random.getstate()
    torch.rand(3)
    random.random()
    assert torch.equal(view(1, 2, 3), reference)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(view(*other), reference)
