"""The parity family against what the official codes do: network, optimiser, rates, pipelines."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import nn

from mixbt_plugin.apps import training
from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.data import pretrain_transform
from mixbt_plugin.registry import register
from tests.recipes.shipped import CONFIGS, built, composed, header, parsed

register()
IMAGES = {"cifar10": 50_000, "cifar100": 50_000, "stl10": 105_000, "tiny_imagenet": 100_000}
IMAGES |= {"imagenet": 1_281_167, "imagenet100": 126_689}
BACKBONE = {(18, 3): 11_168_832, (50, 3): 23_500_352, (50, 7): 23_508_032}
"""Parameters by depth and kernel of the stem."""


@dataclass(frozen=True)
class Official:
    """What an official script trains.

    Attributes:
        depth: of the ResNet.
        projector: widths of its linear layers' outputs.
        parameters: of the projector.
        lr: highest learning rate in effect.
        bias_lr: that of biases and batch-norm, where they have one of their own.
        batch: images a step.
        epochs: of training.
        schedule: ``barlow`` (barlowtwins/main.py), ``mix-bt`` (the same, an epoch ahead) or None.
    """

    depth: int
    projector: tuple[int, ...]
    parameters: int
    lr: float
    batch: int
    epochs: int
    schedule: str | None = None
    bias_lr: float | None = None


def mix_bt(depth: int, epochs: int) -> Official:
    parameters = {18: 788_480, 50: 1_574_912}[depth]
    return Official(depth, (512, 1024), parameters, 0.01, 256, epochs, "mix-bt")


IMAGENET = (8192, 8192, 8192), 151_027_712
HSIC = Official(50, (512, 128), 1_115_264, 1e-3, 128, 1000)
OFFICIAL = {
    "mix-bt/cifar10/mixbt_resnet18": mix_bt(18, 2000),
    "mix-bt/cifar10/mixbt_resnet50": mix_bt(50, 1000),
    "mix-bt/cifar100/mixbt_resnet18": mix_bt(18, 2000),
    "mix-bt/cifar100/mixbt_resnet50": mix_bt(50, 1000),
    "mix-bt/tiny-imagenet/mixbt_resnet18": mix_bt(18, 2000),
    "mix-bt/tiny-imagenet/mixbt_resnet50": mix_bt(50, 2000),
    "mix-bt/stl10/mixbt_resnet18": mix_bt(18, 2000),
    "mix-bt/stl10/mixbt_resnet50": mix_bt(50, 2000),
    "mix-bt/imagenet/mixbt_resnet50": Official(50, *IMAGENET, 0.8, 1024, 300, "barlow", 0.0192),
    "mix-bt/imagenet/mixbt_resnet50_1000epochs": Official(
        50, *IMAGENET, 0.8, 1024, 1000, "barlow", 0.0192
    ),
    "barlowtwins/imagenet/barlow_twins": Official(50, *IMAGENET, 1.6, 2048, 1000, "barlow", 0.0384),
    "bt-hsic/cifar10/hsic_ssl": HSIC,
    "bt-hsic/stl10/hsic_ssl": HSIC,
    "bt-hsic/tiny-imagenet/hsic_ssl": HSIC,
    "fastssl/cifar10/multiaug_barlow_twins_4views": Official(
        50, (256, 256), 590_592, 1e-3, 128, 100
    ),
    "fastssl/cifar10/multiaug_vicreg_4views": Official(50, (256, 256), 590_592, 1e-3, 128, 100),
    "fastssl/stl10/multiaug_barlow_twins_4views": Official(50, (256, 256), 590_592, 1e-3, 100, 100),
    "fastssl/imagenet100/multiaug_barlow_twins_8views": Official(
        18, (512, 512), 525_824, 1e-3, 250, 100
    ),
}
recipes = pytest.mark.parametrize("name", OFFICIAL)


@pytest.fixture
def cfg(name: str, tmp_path: Path) -> Any:
    (tmp_path / "class0").mkdir()
    return parsed(f"parity/{name}", tmp_path)


@recipes
def test_names_shapes_and_number_of_parameters(name: str, cfg: Any) -> None:
    official, model = OFFICIAL[name], built(cfg)
    with torch.device("meta"):
        resnet: Any = getattr(torchvision.models, f"resnet{official.depth}")()
    expected = {k: tuple(v.shape) for k, v in resnet.named_parameters() if not k.startswith("fc.")}
    kernel = 7 if cfg.data.dataset == "imagenet" else 3
    expected["conv1.weight"] = (64, 3, kernel, kernel)
    found = {k: tuple(v.shape) for k, v in model.backbone.named_parameters()}
    assert found == expected
    assert sum(map(math.prod, found.values())) == BACKBONE[official.depth, kernel]

    found = {k: tuple(v.shape) for k, v in model.projector.named_parameters()}
    assert found == dict(projector(resnet.fc.in_features, official.projector))
    assert sum(map(math.prod, found.values())) == official.parameters


@recipes
def test_stem(name: str, cfg: Any) -> None:
    """mix-bt/model.py:22-29; fastssl/models/backbone.py:50-76 keeps neither ReLU nor pooling."""
    backbone = built(cfg).backbone
    small = cfg.data.dataset != "imagenet"
    assert backbone.conv1.padding == ((1, 1) if small else (3, 3))
    assert isinstance(backbone.relu, nn.Identity) == name.startswith("fastssl")
    no_pooling = name.startswith("fastssl") or "cifar" in cfg.data.dataset
    assert isinstance(backbone.maxpool, nn.Identity) == no_pooling
    assert bool(cfg.backbone.kwargs.get("zero_init_residual")) == (not small)


def projector(width: int, outputs: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Two layers have a bias in the last (mix-bt/model.py:33-34), three have none."""
    for layer, output in enumerate(outputs):
        yield f"{3 * layer}.weight", (output, width)
        if layer < len(outputs) - 1:
            yield f"{3 * layer + 1}.weight", (output,)
            yield f"{3 * layer + 1}.bias", (output,)
        elif len(outputs) == 2:
            yield f"{3 * layer}.bias", (output,)
        width = output


@recipes
def test_optimiser_groups(name: str, cfg: Any) -> None:
    official, model = OFFICIAL[name], built(cfg)
    optimizer, _ = optimisation(model, official, cfg)
    assert type(optimizer).__name__ == ("LARS" if official.bias_lr else "Adam")
    groups = {group["name"]: group for group in optimizer.param_groups if group["params"]}
    parts = ("backbone", "projector")
    biases = [f"{part}_bias" for part in parts] if official.bias_lr else []
    assert set(groups) == {*parts, *biases, "classifier"}
    for part in (*parts, *biases):
        assert groups[part]["weight_decay"] == pytest.approx(1e-6)
        wanted = official.bias_lr if part in biases else official.lr
        assert groups[part].get("initial_lr", groups[part]["lr"]) == pytest.approx(wanted)
    if official.bias_lr:
        assert all(p.dim() != 1 for part in parts for p in groups[part]["params"])
        assert all(p.dim() == 1 for part in biases for p in groups[part]["params"])
        lars = {key: groups["backbone"][key] for key in ("momentum", "eta", "clip_lr")}
        assert lars == {"momentum": 0.9, "eta": 0.001, "clip_lr": False}
        assert groups["backbone_bias"]["exclude_bias_n_norm"] is True


@recipes
def test_learning_rates(name: str, cfg: Any) -> None:
    official = OFFICIAL[name]
    assert cfg.optimizer.batch_size * len(cfg.devices) * cfg.num_nodes == official.batch
    assert cfg.max_epochs == official.epochs
    optimizer, scheduler = optimisation(built(cfg), official, cfg)
    epoch = IMAGES[cfg.data.dataset] // official.batch
    ahead = epoch if official.schedule == "mix-bt" else 0
    last = official.epochs * epoch - 1
    points = {0: 0.1 if ahead else 0.0, 5 * epoch - ahead: 0.5, 10 * epoch - ahead: 1.0}
    if (official.epochs - 10) * epoch % 2 == 0:
        points[(10 + official.epochs) * epoch // 2 - ahead] = 0.5005
    share = (last + ahead - 10 * epoch) / ((official.epochs - 10) * epoch)
    cosine = (1 + math.cos(math.pi * share)) / 2
    points[last] = cosine + 0.001 * (1 - cosine)
    for step, factor in points.items():
        factor = factor if official.schedule else 1.0
        rates = rates_at(step, optimizer, scheduler)
        assert rates["backbone"] == rates["projector"] == pytest.approx(factor * official.lr)
        if official.bias_lr:
            bias = pytest.approx(factor * official.bias_lr)
            assert rates["backbone_bias"] == rates["projector_bias"] == bias


def test_a_config_can_say_fastssls_schedule_on_imagenet_1k(tmp_path: Path) -> None:
    """As docs/recipes.md has it; the scheduler of fastssl's script begins with step 1."""
    (tmp_path / "class0").mkdir()
    epoch, epochs = 5004, 100
    cfg = parsed(
        "parity/fastssl/imagenet100/multiaug_barlow_twins_2views",
        tmp_path,
        *("data.dataset=imagenet", "optimizer.name=adamw", "optimizer.lr=0.001"),
        *("scheduler.name=barlow_cosine", "scheduler.warmup_epochs=1"),
        *("scheduler.final_lr_ratio=0.001", f"scheduler.first_epoch={1 / epoch}"),
    )
    official = Official(18, (512, 512), 525_824, 1e-3, 256, epochs)
    assert IMAGES["imagenet"] // official.batch == epoch
    optimizer, scheduler = optimisation(built(cfg), official, cfg)
    assert type(optimizer).__name__ == "AdamW"
    last = epochs * epoch - 1
    middle = (epoch + epochs * epoch) // 2 - 1
    for step, factor in (
        *((0, 1 / epoch), (epoch // 2 - 1, 0.5), (epoch - 1, 1.0)),
        *((middle, 0.5005), (last, 0.001)),
    ):
        assert rates_at(step, optimizer, scheduler)["backbone"] == pytest.approx(factor * 1e-3)


def optimisation(model: Any, official: Official, cfg: Any) -> tuple[Any, Any]:
    """The optimiser and the schedule, None for none, of a training on the real number of images."""
    steps = IMAGES[cfg.data.dataset] // official.batch * official.epochs
    model.trainer = SimpleNamespace(estimated_stepping_batches=steps)
    optimisers = model.configure_optimizers()
    if isinstance(optimisers, torch.optim.Optimizer):
        return optimisers, None
    (optimizer,), (scheduler,) = optimisers
    assert scheduler["interval"] == "step"
    return optimizer, scheduler["scheduler"]


def rates_at(step: int, optimizer: Any, scheduler: Any) -> dict[str, float]:
    """The rates of the groups at the step with this number, counted from 0."""
    if scheduler is not None:
        scheduler.last_epoch = step - 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.step()
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


MIX_BT_JITTER = "brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.4), hue=(-0.1, 0.1)"
FLIP = "RandomHorizontalFlip(p=0.5)"


def crop(size: int, low: float, interpolation: str = "bicubic") -> str:
    return (
        f"RandomResizedCrop(size=({size}, {size}), scale=({low}, 1.0), ratio=(0.75, 1.3333), "
        f"interpolation={interpolation}, antialias=True)"
    )


def grey(prob: float) -> str:
    return f"RandomGrayscale(p={prob})"


def normalize(mean: list[float], std: list[float]) -> str:
    return f"Normalize(mean={mean}, std={std})"


CIFAR_STATISTICS = [0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]


@pytest.mark.parametrize(
    "name,jitter,expected",
    [
        (
            "mix-bt/cifar100/mixbt_resnet18",
            MIX_BT_JITTER,
            [
                crop(32, 0.08, "bilinear"),
                "RandomApply",
                grey(0.2),
                FLIP,
                normalize(*CIFAR_STATISTICS),
            ],
        ),
        (
            "mix-bt/tiny-imagenet/mixbt_resnet18",
            MIX_BT_JITTER,
            [
                "RandomApply",
                grey(0.1),
                crop(64, 0.2),
                FLIP,
                normalize([0.480, 0.448, 0.398], [0.277, 0.269, 0.282]),
            ],
        ),
        (
            "bt-hsic/stl10/hsic_ssl",
            MIX_BT_JITTER,
            [
                "RandomApply",
                grey(0.1),
                crop(64, 0.2),
                FLIP,
                normalize([0.43, 0.42, 0.39], [0.27, 0.26, 0.27]),
            ],
        ),
        (
            "fastssl/stl10/multiaug_barlow_twins_4views",
            MIX_BT_JITTER.replace("(-0.1, 0.1)", "None"),
            [
                crop(64, 0.2),
                "RandomApply",
                grey(0.1),
                FLIP,
                normalize([0.4467, 0.4398, 0.4066], [0.4467, 0.4398, 0.4066]),
            ],
        ),
        (
            "mix-bt/imagenet/mixbt_resnet50",
            MIX_BT_JITTER.replace("saturation=(0.6, 1.4)", "saturation=(0.8, 1.2)"),
            [
                crop(224, 0.08),
                "RandomApply",
                grey(0.2),
                "RandomApply",
                FLIP,
                normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ],
        ),
    ],
)
def test_first_pipeline(name: str, jitter: str, expected: list[str], cfg: Any) -> None:
    """In the order of the code; mirroring may stand anywhere, for it commutes with the colours."""
    first = pretrain_transform(cfg).transforms[0].transform.transforms
    shown = [" ".join(str(step).split()) for step in first if "ToTensor" not in str(step)]
    assert [text if "Apply" not in text else "RandomApply" for text in shown] == expected
    colours = next(text for text in shown if "ColorJitter" in text)
    assert f"p=0.8 ColorJitter({jitter})" in colours


@pytest.mark.parametrize("config", [c for c in CONFIGS if "/fastssl/" in c])
def test_each_width_of_fastssls_tables_brings_its_weight(config: str) -> None:
    cfg = composed(config)
    table, key = ("lambs", "lamb") if "barlow" in config else ("mus", "sim_loss_weight")
    assert str(cfg.method_kwargs.proj_output_dim) in cfg[table]
    for width, weight in cfg[table].items():
        cfg.method_kwargs.proj_output_dim = int(width)
        assert cfg.method_kwargs[key] == weight
        assert cfg.method_kwargs.proj_hidden_dim == int(width)
        if table == "mus":
            assert cfg.method_kwargs.var_loss_weight == weight / 2


@pytest.mark.parametrize("config", [c for c in CONFIGS if "/fastssl/" in c])
def test_fastssls_processes_have_losses_and_batch_norm_of_their_own(
    config: str, tmp_path: Path
) -> None:
    (tmp_path / "class0").mkdir()
    cfg = parsed(config, tmp_path)
    several = "imagenet100" in config
    assert len(cfg.devices) == (2 if several else 1)
    assert built(cfg).settings.ddp == ("local" if several else "exact")
    assert not (several and cfg.sync_batchnorm)


def test_every_parity_config_says_where_it_deviates() -> None:
    parity = [config for config in CONFIGS if config.startswith("parity/")]
    assert len(parity) > 50
    assert all("Deviates" in header(config) for config in parity)


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("scheduler.name", "barlow_cosine", "scheduler.name='barlow_cosine' and optimizer.bias_lr"),
        ("optimizer.bias_lr_ratio", 0.1, "method='barlow_twins' is the host's"),
        (
            "scheduler.first_epoch",
            1,
            "scheduler.first_epoch=1.0 with scheduler.name='warmup",
        ),
    ],
)
def test_the_hosts_methods_refuse_what_only_these_know(key: str, value: Any, message: str) -> None:
    cfg = composed("pretrain/mnist5k/barlow_twins")
    OmegaConf.update(cfg, key, value, force_add=True)
    with pytest.raises(ValueError, match=message):
        training.prepare(cfg, check_pretraining)
