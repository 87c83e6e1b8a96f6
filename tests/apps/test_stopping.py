"""What stops a run, what it says and leaves behind, and how another goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from mixbt_plugin.apps.checkpointer import check_name
from mixbt_plugin.apps.pretrain import pretrain
from mixbt_plugin.apps.training import _reserve
from mixbt_plugin.checkpoints import read_checkpoint
from tests import processes
from tests.apps.composing import composed
from tests.processes import Started, free_port

WORDS = (
    *("optimizer.batch_size=16", "+backbone.kwargs.width=8", "precision=32", "data.num_workers=0"),
    *("+limit_train_batches=4", "+limit_val_batches=1", "log_every_n_steps=1"),
    *("scheduler.warmup_epochs=1", "accelerator=cpu", "checkpoint.keep_prev=true"),
)


def run_here(*words: str) -> Path:
    quiet = ("enable_progress_bar=false", "enable_model_summary=false")
    return pretrain(composed("pretrain/photo_patches/mixbt.yaml", *WORDS, *quiet, *words))


def start(*words: str, **environment: str) -> Started:
    config = ("--config-path", "pretrain/photo_patches", "--config-name", "mixbt")
    return processes.start("mixbt_plugin.apps.pretrain", *config, *WORDS, *words, **environment)


def wait_for(pattern: str, process: Started) -> Path:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        if found := list(Path().glob(pattern)):
            return found[0]
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    raise AssertionError(f"{pattern} did not come")


@pytest.mark.slow
@pytest.mark.parametrize(
    "devices,loaders,whole_group",
    [
        pytest.param(1, 0, False, id="one process"),
        pytest.param(2, 0, False, id="two"),
        pytest.param(1, 2, True, id="with its loader's, as timeout does"),
    ],
)
def test_sigterm_ends_with_143_and_says_what_to_type(
    devices: int, loaders: int, whole_group: bool
) -> None:
    several = [f"devices={devices}", *(["strategy=ddp"] if devices > 1 else [])]
    process = start("max_epochs=1000", *several, f"data.num_workers={loaders}")
    try:
        wait_for("trained_models/mixbt/*/*-ep0.ckpt", process)
        if whole_group:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143, errors[-3000:]
    saved = re.findall(r"^stopped   by SIGTERM, after (.*\.ckpt)$", said, re.MULTILINE)
    assert len(saved) == 1
    assert f"resume    by the same command with resume_from_checkpoint={saved[0]}" in said
    newest = max(Path(saved[0]).parent.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    assert newest == Path(saved[0])
    assert read_checkpoint(newest)["state_dict"]


def two_nodes(*words: str, **environment: str) -> list[Started]:
    """One process on each of two nodes, as ``srun`` would start them."""
    job = {
        **{"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"},
        **{"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "MASTER_ADDR": "127.0.0.1"},
        **{"SLURM_LOCALID": "0", "MASTER_PORT": str(free_port()), **environment},
    }
    parts = [{"SLURM_PROCID": str(node), "SLURM_NODEID": str(node)} for node in (0, 1)]
    several = ("devices=1", "num_nodes=2", "strategy=ddp", "max_epochs=30", *words)
    return [start(*several, **job, **part) for part in parts]


@pytest.mark.slow
def test_a_job_that_slurm_requeues_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM's environment by hand, with a ``scontrol`` that writes down what it is asked."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked.part\n')
    scontrol.write_text(scontrol.read_text() + f"mv {tmp_path}/asked.part {tmp_path}/asked\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}")
    nodes: list[Started] = []
    try:
        nodes = two_nodes()
        wait_for("trained_models/mixbt/*/*-ep0.ckpt", nodes[0])
        for node in nodes:
            node.send_signal(signal.SIGUSR1)
        wait_for("asked", nodes[0])
        for node in nodes:
            node.terminate()
        said = [node.communicate(timeout=60)[0] for node in nodes]
        assert Path("asked").read_text() == "requeue 4711\n"
        assert "SIGUSR1: saved trained_models/mixbt/version_0/" in said[0]
        last = max(Path("trained_models").rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)

        nodes = two_nodes(SLURM_RESTART_COUNT="1")
        said = [node.communicate(timeout=180)[0] for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0]
        assert f"SLURM has started job 4711 again: {last}" in said[0]
        nodes = two_nodes("checkpoint.dir=whole")
        for node in nodes:
            node.communicate(timeout=180)
    finally:
        for node in nodes:
            node.kill()
    assert not list(Path().rglob("hpc_ckpt*"))
    (resumed,) = Path("trained_models/mixbt/version_1").glob("*-ep29.ckpt")
    (whole,) = Path("whole").rglob("*-ep29.ckpt")
    ours, theirs = read_checkpoint(resumed), read_checkpoint(whole)
    assert ours["global_step"] == theirs["global_step"] == 120
    for key, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][key], value), key


def test_a_restarted_job_takes_its_own_checkpoints_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    first = run_here("max_epochs=1")
    assert json.loads((first / "args.json").read_text())["slurm_job_id"] == 1
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run_here("max_epochs=1") == first
    monkeypatch.setenv("SLURM_JOB_ID", "2")
    assert run_here("max_epochs=1") != first
    said = capsys.readouterr().out
    assert "resume    nothing to do: 1 epochs are done, and max_epochs=1" in said
    assert "SLURM has started job 2 again: nothing saved by it" in said


@pytest.mark.slow
def test_each_job_has_its_run_of_wandb_and_resuming_continues_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    logged = ("wandb.enabled=true", "max_epochs=1")
    folders = [run_here(*logged, f"method_kwargs.lamb_reg={lamb}") for lamb in (1, 2)]
    assert wandb.run is None
    ids = [json.loads((folder / "args.json").read_text())["wandb"]["id"] for folder in folders]
    assert ids[0] != ids[1]
    for folder, run in zip(folders, ids):
        (found,) = folder.glob("wandb/offline-run-*")
        assert found.name.endswith(run)
    (checkpoint,) = folders[1].glob("*.ckpt")
    resumed = run_here(
        *("wandb.enabled=true", "max_epochs=2", "method_kwargs.lamb_reg=2"),
        f"resume_from_checkpoint={checkpoint}",
    )
    assert json.loads((resumed / "args.json").read_text())["wandb"]["id"] == ids[1]
    assert f"wandb     continues run {ids[1]}" in capsys.readouterr().out


def test_fast_dev_run_writes_nothing() -> None:
    run_here("fast_dev_run=true", "max_epochs=1")
    assert not list(Path().iterdir())


def test_a_folder_is_reserved_by_making_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda _: _reserve(tmp_path / "mixbt"), range(64)))
    assert sorted(versions) == list(range(64))
    (tmp_path / "mixbt" / "version_100").mkdir()
    assert _reserve(tmp_path / "mixbt") == 101


@pytest.mark.parametrize("name", ["exp/a", "../../x", "/x", "..", ".", "", "a\\b", "a\0b"])
def test_a_name_is_a_files_name(name: Any) -> None:
    with pytest.raises(ValueError, match="name=.*checkpoints are called by it"):
        check_name(OmegaConf.create({"name": name}))


@pytest.mark.parametrize("name", ["a", "mixbt-cifar10", "a.b=c", "ü", None, 3])
def test_other_names_pass(name: Any) -> None:
    check_name(OmegaConf.create({"name": name}))
