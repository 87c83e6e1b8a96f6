"""The commands, in processes of their own, on real images."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.data import BatchKey, BatchViews, as_tensor, batch_augmentation, pretrain_dataset
from mixbt_plugin.host import HOST
from tests import processes
from tests.apps.recorded_pretraining import recorded
from tests.images import CLASSES, image_folder

SMALL = [
    "optimizer.batch_size=64",
    "max_epochs=2",
    "limit_train_batches=2",
    "limit_val_batches=2",
    "backbone.kwargs.width=8",
    "data.num_workers=0",
    "precision=32",
    "checkpoint.dir=models",
]


def run(command: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return processes.run(f"mixbt_plugin.apps.{command}", *words, check=check)


def pretrain(name: str, *arguments: str, data: str = "mnist5k", record: bool = False) -> Path:
    words = [
        *("--config-path", f"pretrain/{data}", "--config-name", name),
        *(word.replace("backbone.kwargs", "+backbone.kwargs") for word in SMALL),
        *arguments,
    ]
    if record:
        processes.run("tests.apps.recorded_pretraining", *words)
    else:
        run("pretrain", *words)
    (checkpoint,) = Path("models").rglob("*-ep1.ckpt")
    return checkpoint


def json_beside(checkpoint: Path) -> Any:
    return json.loads((checkpoint.parent / "args.json").read_text())


@pytest.mark.slow
def test_pretrain_then_knn_then_linear_then_finetune() -> None:
    checkpoint = pretrain("mixbt")
    folder = checkpoint.parent
    config = json_beside(checkpoint)
    assert config["method"] == "mixbt"
    assert config["method_kwargs"]["lamb_reg"] == 4.0
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert any(row["train_mixbt_loss_epoch"] for row in rows)
    assert any(row["val_knn_acc1"] for row in rows)
    online = json.loads((folder / "results.json").read_text())
    assert [(row["evaluation"], row["mode"], row["which"]) for row in online] == [
        ("linear classifier", "online", "last"),
        ("linear classifier", "online", "best"),
        ("kNN (k=20, cosine)", "online", "last"),
        ("kNN (k=20, cosine)", "online", "best"),
    ]
    assert [path.name for path in folder.glob("*.ckpt")] == [checkpoint.name]

    printed = run("knn", f"pretrained_checkpoint={checkpoint}", "k=[5]", "temperature=[0.1]").stdout
    assert "kNN, offline, last epoch (2 of 2), test split of mnist5k" in printed
    table = list(csv.DictReader((folder / "knn.csv").open()))
    assert [(row["features"], row["distance"]) for row in table] == [
        ("backbone", "cosine"),
        ("backbone", "euclidean"),
        ("projector", "cosine"),
        ("projector", "euclidean"),
    ]
    assert {(row["mode"], row["which"], row["split"]) for row in table} == {
        ("offline", "last", "test")
    }
    assert all(10 < float(row["acc1"]) <= float(row["acc5"]) <= 100 for row in table)

    words = [word.replace("backbone.kwargs", "+backbone.kwargs") for word in SMALL]
    for extra, label in (([], "linear"), (["finetune=true", "data.fraction=0.1"], "fine-tuned")):
        printed = run(
            "linear",
            *("--config-path", "linear", "--config-name", "mnist5k"),
            f"pretrained_feature_extractor={checkpoint}",
            *words,
            *extra,
        ).stdout
        assert f"{label}, offline, last epoch (2 of 2), test split of mnist5k: acc@1" in printed
    tuned, frozen = (
        torch.load(max(Path("models/linear", version).glob("*.ckpt")), weights_only=True)
        for version in ("version_1", "version_0")
    )
    pretrained = torch.load(checkpoint, weights_only=True)["state_dict"]
    key = "backbone.stem.0.weight"
    assert torch.equal(frozen["state_dict"][key], pretrained[key])
    assert not torch.equal(tuned["state_dict"][key], pretrained[key])


@pytest.mark.slow
def test_colour_patches_tensorboard_and_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    checkpoint = pretrain(
        "multiaug_vicreg",
        "data.color=true",
        "tensorboard.enabled=true",
        "wandb.enabled=true",
        "wandb.offline=true",
        "accumulate_grad_batches=2",
        data="photo_patches",
    )
    assert list(checkpoint.parent.glob("events.out.tfevents.*"))
    assert list(checkpoint.parent.glob("wandb/offline-run-*/*.wandb"))
    assert (checkpoint.parent / "metrics.csv").exists()
    assert json_beside(checkpoint)["data"]["color"] is True


def test_custom_folder_with_and_without_labels(tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images", per_class=16)
    custom = [
        "data.dataset=custom",
        f"data.train_path={images / 'train'}",
        f"data.val_path={images / 'val'}",
        "optimizer.batch_size=16",
    ]
    common = [
        *("--config-path", "pretrain/cifar", "--config-name", "mixbt"),
        *("max_epochs=1", "data.num_workers=0", "precision=32"),
        *("backbone.name=narrow_resnet10", "+backbone.kwargs.width=8"),
    ]
    run("pretrain", *common, *custom, "checkpoint.dir=models", "devices=auto")
    (checkpoint,) = Path("models").rglob("*.ckpt")
    config = json_beside(checkpoint)
    assert config["data"]["num_classes"] == CLASSES
    assert config["devices"] == [0]

    flat = images / "train" / "class0"
    run(
        "pretrain",
        *common,
        *custom[:1],
        f"data.train_path={flat}",
        "data.val_path=null",
        "data.no_labels=true",
        "optimizer.batch_size=4",
        "data.fraction=0.5",
        "checkpoint.dir=unlabelled",
    )
    (checkpoint,) = Path("unlabelled").rglob("*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 2


def assert_each_process_had_its_own_views(cfg: DictConfig) -> None:
    """Other images and other parameters than the other process, those of any run."""
    images, augmentation = pretrain_dataset(cfg, as_tensor), batch_augmentation(cfg)
    alike = BatchViews(images, augmentation, cfg.seed, rank=0)
    for epoch, batch in product(range(2), range(2)):
        seen = []
        for rank in range(2):
            indexes, views = torch.load(recorded(rank, epoch, batch), weights_only=True)
            key = BatchKey(epoch, batch, indexes.tolist())
            _, expected, _ = BatchViews(images, augmentation, cfg.seed, rank=rank)[key]
            torch.testing.assert_close(views, expected)
            seen.append(indexes.tolist())
            if rank == 1:
                assert not torch.allclose(views[0], alike[key][1][0])
        assert len({*seen[0], *seen[1]}) == 2 * cfg.optimizer.batch_size


@pytest.mark.slow
@pytest.mark.parametrize("resumed_with,augment", [(1, "image"), (2, "batch")])
def test_two_processes_then_resumed(resumed_with: int, augment: str) -> None:
    """Through Hydra and Lightning's own launcher, on gloo."""
    two = ["accelerator=cpu", "strategy=ddp", "optimizer.batch_size=32", f"data.augment={augment}"]
    words = [*two, "devices=2", "checkpoint.keep_prev=true"]
    checkpoint = pretrain("mixbt", *words, record=augment == "batch")
    if augment == "batch":
        assert_each_process_had_its_own_views(OmegaConf.create(json_beside(checkpoint)))
    config = json_beside(checkpoint)
    assert config["devices"] == [0, 1]
    assert config["optimizer"]["lr"] == pytest.approx(4e-3 * 2 * 32 / 256)
    earlier = next(checkpoint.parent.glob("*-ep0.ckpt"))
    run(
        "pretrain",
        *("--config-path", "pretrain/mnist5k", "--config-name", "mixbt"),
        *(word.replace("backbone.kwargs", "+backbone.kwargs") for word in SMALL),
        *two,
        f"devices={resumed_with}",
        f"resume_from_checkpoint={earlier}",
        "checkpoint.dir=resumed",
    )
    (resumed,) = Path("resumed").rglob("*.ckpt")
    assert torch.load(resumed, weights_only=True)["global_step"] == 4
    if resumed_with == 2:
        ours, theirs = (
            torch.load(path, weights_only=True)["state_dict"] for path in (resumed, checkpoint)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_without_a_config_the_shipped_ones_are_listed() -> None:
    done = run("pretrain", check=False)
    assert done.returncode != 0
    assert (
        "--config-path pretrain/mnist5k --config-name barlow_twins | hsic_ssl | mixbt"
        in done.stderr
    )
    assert "augmentations" not in done.stderr


def test_an_old_name_is_answered_with_what_replaces_it() -> None:
    words = ("--config-path", "pretrain/cifar", "--config-name", "mixbt_resnet50")
    done = run("pretrain", *words, check=False)
    assert done.returncode != 0
    assert "--config-path pretrain/cifar --config-name mixbt backbone.name=resnet50" in done.stderr


def test_the_whole_config_is_shown_and_saved() -> None:
    """By ``--cfg job``, by the run, and beside the checkpoint: all defaults too."""
    small = [word.replace("backbone.kwargs", "+backbone.kwargs") for word in SMALL]
    words = ["--config-path", "pretrain/mnist5k", "--config-name", "hsic_ssl", *small]
    shown = run("pretrain", *words, "--cfg", "job").stdout
    config = yaml.safe_load(shown)
    assert config["method_kwargs"]["proj_output_bias"] is True
    assert config["method_kwargs"]["lamb"] is None
    assert config["numerics"]["max_skipped"] == 10
    printed = run("pretrain", *words).stdout
    assert yaml.safe_load(printed[: printed.index("\n\n")]) == config
    assert f"host      {HOST}" in printed
    assert "lr 0.001 in effect" in printed

    (saved,) = (json.loads(path.read_text()) for path in Path("models").rglob("args.json"))
    different = {key for key in config if saved[key] != config[key]}
    # The host adds counts, the optimiser's own defaults and the rates in effect.
    assert different <= {"data", "optimizer", "devices", "view"}
    assert saved["method_kwargs"] == config["method_kwargs"]


def test_the_config_of_a_linear_evaluation_is_shown_with_its_defaults() -> None:
    words = ["--config-path", "linear", "--config-name", "mnist5k", "--cfg", "job"]
    shown = yaml.safe_load(run("linear", *words).stdout)
    assert shown["checkpoint"]["enabled"] is True
    assert shown["optimizer"]["kwargs"]["momentum"] == 0.9
    assert shown["pretrained_feature_extractor"] is None


def test_a_config_that_is_wrong_is_not_shown_but_refused() -> None:
    words = ["--config-path", "linear", "--config-name", "mnist5k", "optimizer.name=sgdd"]
    refused = run("linear", *words, "--cfg", "job", check=False)
    assert refused.returncode == 2
    assert "optimizer.name='sgdd': expected one of sgd, lars" in refused.stderr


def test_unknown_config_folder() -> None:
    done = run("pretrain", "--config-path", "pretrain/mnist6k", "--config-name", "x", check=False)
    assert "--config-path pretrain/mnist6k: no such folder" in done.stderr


@pytest.mark.solo_learn
@pytest.mark.parametrize("written_by", ["embedded", "solo-learn"])
def test_a_checkpoint_of_either_host_loads_in_the_other(
    written_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_by = {"embedded": "solo-learn", "solo-learn": "embedded"}[written_by]
    monkeypatch.setenv("MIXBT_HOST", written_by)
    checkpoint = pretrain("mixbt", "checkpoint.keep_prev=true")
    earlier = next(checkpoint.parent.glob("*-ep0.ckpt"))
    knn = ["knn", f"pretrained_checkpoint={checkpoint}", "k=[5]", "feature_type=[backbone]"]
    expected = run(*knn).stdout
    monkeypatch.setenv("MIXBT_HOST", read_by)
    found = run(*knn).stdout
    assert [line.split()[:5] for line in found.splitlines()[2:4]] == [
        line.split()[:5] for line in expected.splitlines()[2:4]
    ]
    done = run(
        "pretrain",
        *("--config-path", "pretrain/mnist5k", "--config-name", "mixbt"),
        *(word.replace("backbone.kwargs", "+backbone.kwargs") for word in SMALL),
        f"resume_from_checkpoint={earlier}",
        "checkpoint.dir=resumed",
    )
    assert f"host      {read_by}" in done.stdout
    (resumed,) = Path("resumed").rglob("*.ckpt")
    assert torch.load(resumed, weights_only=True)["global_step"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrain", "linear", "knn"])
def test_scripts_as_in_solo_learn(name: str) -> None:
    script = Path(__file__).parents[2] / "scripts" / f"main_{name}.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode != 0
    expected = "pretrained_checkpoint is missing" if name == "knn" else "Which config?"
    assert expected in done.stderr


def test_help_comes_before_the_heavy_imports() -> None:
    ask = "import sys, atexit; from mixbt_plugin.apps.commands import pretrain; sys.argv[1:] = "
    ask += "['--config-path', 'pretrain/mnist5k', '--config-name', 'mixbt', '--help']; "
    ask += "atexit.register(lambda: print('loaded:', {'torch', 'lightning'} & set(sys.modules)));"
    done = subprocess.run(
        [sys.executable, "-c", ask + "pretrain()"], capture_output=True, text=True
    )
    assert "lamb_reg: 4.0" in done.stdout, done.stderr
    assert "pretrain is powered by Hydra" in done.stdout
    assert "loaded: set()" in done.stdout
