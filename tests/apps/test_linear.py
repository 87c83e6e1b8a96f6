"""``mixbt-linear``, in this process: labels of its results, and its options."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy

from mixbt_plugin.apps.linear import _loss_and_mixup, linear
from tests.apps.composing import composed
from tests.apps.untrained import checkpoint_of
from tests.images import image_folder

SMALL = (
    *("max_epochs=2", "limit_train_batches=2", "limit_val_batches=2", "optimizer.batch_size=64"),
    *("data.num_workers=0", "checkpoint.dir=models", "enable_progress_bar=false"),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = {"name": "narrow_resnet10", "kwargs": {"width": 8}}
    folder = tmp_path_factory.mktemp("pretrained")
    return checkpoint_of(folder, backbone, "mnist5k", augmentations=[{"crop_size": 16}])


def evaluate(checkpoint: Path, *overrides: str, config: str = "linear/mnist5k.yaml") -> Path:
    cfg = composed(config, *SMALL, *overrides)
    cfg.pretrained_feature_extractor = str(checkpoint)
    return linear(cfg)


def results(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return rows


def logged(folder: Path, column: str) -> list[float]:
    rows = csv.DictReader((folder / "metrics.csv").open())
    return [float(row[column]) for row in rows if row.get(column)]


def test_last_and_best_epoch_are_told_apart(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A rate so high that the second epoch is worse than the first.
    folder = evaluate(checkpoint, "max_epochs=4", "optimizer.lr=50", "seed=2")
    last, best = results(folder)
    accuracies = logged(folder, "val_acc1")
    assert len(accuracies) == 4
    assert accuracies[-1] < max(accuracies)
    shared = {"evaluation": "linear", "mode": "offline", "dataset": "mnist5k", "split": "test"}
    assert last.items() >= {**shared, "which": "last", "epoch": 4, "epochs": 4}.items()
    assert best.items() >= {**shared, "which": "best", "chosen_on": "test"}.items()
    assert (last["acc1"], best["acc1"]) == pytest.approx(
        (accuracies[-1], max(accuracies)), abs=1e-3
    )
    assert best["epoch"] == 1 + accuracies.index(max(accuracies))
    printed = capsys.readouterr().out
    assert (
        f"linear, offline, last epoch (4 of 4), test split of mnist5k: acc@1 {last['acc1']:.2f}"
        in printed
    )
    assert f"best epoch ({best['epoch']} of 4, chosen on this split)" in printed


def test_a_resumed_run_knows_the_epochs_before(checkpoint: Path) -> None:
    whole = evaluate(checkpoint, "checkpoint.keep_prev=true")
    earlier = next(whole.glob("*-ep0.ckpt"))
    resumed = evaluate(checkpoint, f"resume_from_checkpoint={earlier}", "checkpoint.dir=resumed")
    assert results(resumed) == results(whole)


def test_mixup_cutmix_and_label_smoothing_train(checkpoint: Path) -> None:
    mixing = ("finetune=true", "mixup=0.8", "cutmix=1.0", "label_smoothing=0.1")
    folder = evaluate(checkpoint, *mixing)
    assert logged(folder, "train_loss_epoch")
    assert not logged(folder, "train_acc1_epoch")
    assert {row["evaluation"] for row in results(folder)} == {"fine-tuned"}
    smoothed = evaluate(checkpoint, "label_smoothing=0.1", "optimizer.lr=0")
    plain = evaluate(checkpoint, "optimizer.lr=0")
    assert logged(smoothed, "val_loss") == logged(plain, "val_loss")
    assert logged(smoothed, "train_loss_epoch") != logged(plain, "train_loss_epoch")


def test_the_classifiers_rate_is_scaled_with_the_batch(checkpoint: Path) -> None:
    words = ("optimizer.lr=0.08", "optimizer.classifier_lr=0.4", "max_epochs=1")
    folder = evaluate(checkpoint, *words, config="finetuning/mnist5k.yaml")
    optimizer = json.loads((folder / "args.json").read_text())["optimizer"]
    assert (optimizer["lr"], optimizer["classifier_lr"]) == pytest.approx((0.02, 0.1))
    rates = torch.load(next(folder.glob("*.ckpt")), weights_only=True)["lr_schedulers"][0]
    assert rates["base_lrs"] == pytest.approx([0.02, 0.1])


def loss_config(**changes: Any) -> Any:
    off = {"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0, "data": {"num_classes": 4}}
    return OmegaConf.create({**off, **changes})


def test_label_smoothing_is_timms() -> None:
    logits, targets = torch.randn(8, 4), torch.arange(8) % 4
    loss, mixup = _loss_and_mixup(loss_config(label_smoothing=0.3))
    assert mixup is None
    torch.testing.assert_close(
        loss(logits, targets), LabelSmoothingCrossEntropy(0.3)(logits, targets)
    )


@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_images_and_targets_are_mixed_alike(key: str) -> None:
    _, mix = _loss_and_mixup(loss_config(**{key: 1.0}))
    targets = torch.arange(4)
    images = torch.nn.functional.one_hot(targets).float()[:, :, None, None].expand(4, 4, 8, 8)
    mixed, soft = mix(images.clone(), targets)
    # Each image is its class's channel: the channels' means are the shares of the classes.
    torch.testing.assert_close(mixed.mean(dim=(2, 3)), soft)
    assert not soft.equal(torch.nn.functional.one_hot(targets).float())


@pytest.mark.parametrize(
    "override,message",
    [
        ("mixup=-1", "mixup=-1: expected a number of at"),
        ("cutmix=-0.5", "cutmix=-0.5: expected a number of"),
        ("label_smoothing=2", "label_smoothing=2: expected a num"),
        ("++auto_augment=true", "auto_augment: solo-learn's own main_linear.py does it"),
        ("scheduler.name=cosin", "scheduler.name='cosin': expected one of"),
        ("+augmentations=5", "augmentations=5: expected a list of pipelines"),
    ],
)
def test_refusals_come_before_training(checkpoint: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(checkpoint, override)
    assert not Path("models").exists()


def test_reduce_looks_at_the_loss_when_there_is_one(checkpoint: Path) -> None:
    folder = evaluate(checkpoint, "scheduler.name=reduce", "check_val_every_n_epoch=2")
    assert len(logged(folder, "val_loss")) == 1


def test_a_run_without_a_number_says_so(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(checkpoint, "check_val_every_n_epoch=3")
    assert "results   none: the training ended before an epoch" in capsys.readouterr().out


def test_mixing_needs_an_even_batch(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="optimizer.batch_size=63: mixup and cutmix"):
        evaluate(checkpoint, "mixup=1", "optimizer.batch_size=63")


def test_few_classes(checkpoint: Path, tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images", per_class=4)
    for split in ("train", "val"):
        for n in range(3, 6):
            (images / split / f"class{n}").rename(tmp_path / f"{split}-{n}")
    words = [
        *(f"data.train_path={images / 'train'}", f"data.val_path={images / 'val'}"),
        *("devices=1", "optimizer.batch_size=4", "data.augmentations.crop_size=16", "precision=32"),
    ]
    last, _ = results(evaluate(checkpoint, *words, config="linear/custom.yaml"))
    assert (last["split"], last["acc5"]) == ("validation", 100.0)


def test_images_are_those_of_pretraining(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of 224 pixels, which folders have where nobody says a size."""
    images = image_folder(tmp_path / "images", per_class=4)
    backbone = {"name": "narrow_resnet10", "kwargs": {"width": 8}}
    first = {"crop_size": 24, "mean": [0.4, 0.4, 0.4]}
    pretrained = checkpoint_of(tmp_path / "run", backbone, augmentations=[first])
    words = [
        *(f"data.train_path={images / 'train'}", f"data.val_path={images / 'val'}", "devices=1"),
        *("optimizer.batch_size=8", "precision=32", "max_epochs=1"),
    ]
    folder = evaluate(pretrained, *words, config="linear/custom.yaml")
    expected = {"crop_size": 24, "mean": [0.4] * 3, "images_as": "pre-training (args.json)"}
    assert all(row.items() >= expected.items() for row in results(folder))
    assert "input     24 x 24 px, mean 0.4 0.4 0.4, std 0.229 0.2" in capsys.readouterr().out
    saved = json.loads((folder / "args.json").read_text())["data"]["augmentations"]
    assert (saved["crop_size"], saved["mean"]) == (24, [0.4] * 3)

    words += ["data.augmentations.crop_size=16"]
    row, _ = results(evaluate(pretrained, *words, config="linear/custom.yaml"))
    assert row["crop_size"] == 16
    assert row["images_as"].startswith("crop_size of data.augmentations; mean, std of pre-train")


@pytest.mark.parametrize(
    "override,message",
    [
        ("data.augmentations.crop_size=0", "crop_size=0: expected a positive"),
        ("data.augmentations.mean=[0.5]", r"mean=\[0.5\]: expected three"),
        ("data.augmentations.std=[0,0,0]", r"std=.*: expected three"),
        ("accelerator=gpu", "accelerator='gpu': there is no CUDA GPU here"),
    ],
)
def test_images_and_devices_that_cannot_be(
    checkpoint: Path, override: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        evaluate(checkpoint, override)
    assert not Path("models").exists()


def test_the_backbone_is_that_of_pretraining(tmp_path: Path) -> None:
    """Its stem too, which the host varies by the data set: here CIFAR's on digits."""
    folder = tmp_path / "resnet"
    path = checkpoint_of(folder, {"name": "resnet18", "kwargs": {}}, dataset="cifar10")
    run = evaluate(path, "max_epochs=1", "limit_train_batches=1", "optimizer.batch_size=8")
    state = torch.load(next(run.glob("*.ckpt")), weights_only=True)["state_dict"]
    assert state["backbone.conv1.weight"].shape == (64, 3, 3, 3)

    (folder / "args.json").unlink()
    with pytest.raises(ValueError, match="backbone.name is missing: no args.json beside"):
        evaluate(path)
