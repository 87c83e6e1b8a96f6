"""solo-learn's own scripts, as they are, with the plugin in the environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.images import image_folder

pytestmark = [pytest.mark.solo_learn, pytest.mark.slow]
CONFIGS = Path(__file__).parents[2] / "configs"


def overrides(images: Path) -> list[str]:
    """What a small run on the CPU needs on top of the shipped CIFAR config.

    solo-learn takes ``len(devices)`` and Lightning a number or text on the CPU: "1" is both.
    """
    return [
        "data.dataset=custom",
        f"data.train_path={images / 'train'}",
        "data.val_path=null",
        "data.num_workers=0",
        "optimizer.batch_size=16",
        "max_epochs=2",
        "accelerator=cpu",
        "devices='1'",
        "precision=32",
        "sync_batchnorm=False",
        "backbone.name=narrow_resnet10",
        "checkpoint.dir=models",
    ]


def stock_pretrain(checkout: Path, name: str, arguments: list[str], folder: str = "cifar") -> Path:
    command = [
        *(sys.executable, str(checkout / "main_pretrain.py")),
        *("--config-path", str(CONFIGS / "pretrain" / folder), "--config-name", name),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (checkpoint,) = Path("models").rglob("*.ckpt")
    return checkpoint


@pytest.mark.parametrize(
    "folder,method",
    [
        ("cifar", "mixbt"),
        ("cifar", "hsic_ssl"),
        ("cifar", "multiaug_barlow_twins"),
        ("custom", "barlow_twins"),
        ("stl10", "mixbt"),
    ],
)
def test_stock_main_pretrain(folder: str, method: str, checkout: Path, tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    arguments = overrides(images)
    if folder == "custom":
        arguments += ["view.crop_size=32", "second_view.crop_size=32"]
    if folder == "stl10":
        arguments.append("~backbone.kwargs")
    checkpoint = stock_pretrain(checkout, method, arguments, folder)
    state = torch.load(checkpoint, weights_only=True)
    assert state["global_step"] == 6
    assert any(key.startswith("projector.") for key in state["state_dict"])


def test_stock_checkpoint_in_our_knn_and_linear(checkout: Path, tmp_path: Path) -> None:
    images = image_folder(tmp_path / "images")
    checkpoint = stock_pretrain(checkout, "mixbt", overrides(images))
    knn = subprocess.run(
        [
            *(sys.executable, "-m", "mixbt_plugin.apps.knn"),
            f"pretrained_checkpoint='{checkpoint}'",
            f"data.val_path={images / 'val'}",
            "k=[1]",
        ],
        capture_output=True,
        text=True,
    )
    assert knn.returncode == 0, knn.stderr[-3000:]
    assert "backbone" in knn.stdout
    linear = subprocess.run(
        [
            *(sys.executable, "-m", "mixbt_plugin.apps.linear"),
            *("--config-path", "linear", "--config-name", "cifar10"),
            f"pretrained_feature_extractor='{checkpoint}'",
            f"data.val_path={images / 'val'}",
            "data.augmentations.crop_size=32",
            *(word for word in overrides(images) if not word.startswith("data.val_path")),
        ],
        capture_output=True,
        text=True,
    )
    assert linear.returncode == 0, linear.stderr[-3000:]
    assert "linear, offline, last epoch" in linear.stdout


def test_a_config_of_solo_learns_own_takes_the_method(checkout: Path, tmp_path: Path) -> None:
    """As docs/solo-learn.md, step 4, has it."""
    folder = tmp_path / "cifar"
    shutil.copytree(checkout / "scripts" / "pretrain" / "cifar", folder)
    text = (folder / "barlow.yaml").read_text()
    text = text.replace('method: "barlow_twins"', 'method: "mixbt"')
    text = text.replace("  scale_loss: 0.1\n", "  scale_loss: 0.1\n  lamb_reg: 4.0\n")
    (folder / "mixbt.yaml").write_text(text)
    arguments = overrides(image_folder(tmp_path / "images"))
    done = subprocess.run(
        [
            *(sys.executable, str(checkout / "main_pretrain.py")),
            *("--config-path", str(folder), "--config-name", "mixbt", "wandb.enabled=False"),
            *("name=mixbt-photos", "strategy=auto", *arguments),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (checkpoint,) = Path("models").rglob("mixbt-photos*.ckpt")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 6


def test_main_linear_evaluates_its_checkpoint(checkout: Path, tmp_path: Path) -> None:
    """As docs/solo-learn.md, step 5, has it."""
    images = image_folder(tmp_path / "images")
    checkpoint = stock_pretrain(checkout, "mixbt", overrides(images)).resolve()
    arguments = [word for word in overrides(images) if not word.startswith("data.val_path")]
    done = subprocess.run(
        [
            *(sys.executable, str(checkout / "main_linear.py")),
            *("--config-path", str(CONFIGS / "linear"), "--config-name", "custom"),
            *(f"pretrained_feature_extractor='{checkpoint}'", f"data.val_path={images / 'val'}"),
            *(*arguments, "checkpoint.dir=evaluated", "max_epochs=1"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(Path("evaluated").rglob("*.ckpt"))
