"""What the commands know of a config in solo-learn's schema, checked before anything else.

The hosts' parsers fill in defaults and say little of what is wrong. Here each key that they or
Lightning read has its type and range. Keys that solo-learn alone knows pass; a key that nearly is
one of these is taken for a typing error.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mixbt_plugin.apps.training import require_known
from mixbt_plugin.data import PROPERTIES, check_dali, check_data
from mixbt_plugin.host import METHODS, BaseMethod
from mixbt_plugin.methods.linear import LinearSchedule, LinearSettings
from mixbt_plugin.methods.optimization import BARLOW_COSINE
from mixbt_plugin.methods.settings import parse_settings
from mixbt_plugin.registry import list_methods
from mixbt_plugin.settings import check_section, setting

ABSENT = None
"""A key that has no default here: the host's parser has one, or does without."""
OTHERS_KEYS = ("dali", "auto_resume", "auto_umap", "debug_augmentations", "num_large_crops")
"""Keys of solo-learn that look like none of these by mistake; Lightning's are added."""
PRECISIONS = (
    *(16, 32, 64, "16", "32", "64", "bf16", "16-mixed", "bf16-mixed", "16-true", "bf16-true"),
    *("32-true", "64-true"),
)


def _probability() -> Any:
    return setting(help="a probability", low=0, high=1)


def _size(value: Any) -> str | None:
    sides = value if isinstance(value, list) else [value]
    right = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
    if right and 1 <= len(sides) <= 2 and all(side > 0 for side in sides):
        return None
    return "a positive number of pixels, or a list of two"


def _channels(value: Any) -> str | None:
    if value is None or (
        isinstance(value, list) and len(value) == 3 and all(isinstance(x, float) for x in value)
    ):
        return None
    return "three numbers, one a channel"


@dataclass
class RandomResizedCrop:
    """``augmentations[].rrc``."""

    enabled: bool = setting(help="true or false")
    crop_min_scale: float = setting(ABSENT, above=0, high=1)
    crop_max_scale: float = setting(ABSENT, above=0, high=1)
    interpolation: str = setting(ABSENT, choices=("bicubic", "bilinear"))
    after_color: bool = setting(ABSENT)


@dataclass
class ColorJitter:
    """``augmentations[].color_jitter``."""

    prob: float = _probability()
    brightness: float = setting(ABSENT, low=0)
    contrast: float = setting(ABSENT, low=0)
    saturation: float = setting(ABSENT, low=0)
    hue: float = setting(ABSENT, low=0, high=0.5)


@dataclass
class WithProbability:
    """An augmentation that has no other key."""

    prob: float = _probability()


@dataclass
class Pipeline:
    """``augmentations[]``."""

    rrc: RandomResizedCrop = setting(help="rrc.enabled is needed")
    color_jitter: ColorJitter = setting(help="color_jitter.prob is needed")
    grayscale: WithProbability = setting(help="grayscale.prob is needed")
    gaussian_blur: WithProbability = setting(help="gaussian_blur.prob is needed")
    solarization: WithProbability = setting(help="solarization.prob is needed")
    equalization: WithProbability = setting(help="equalization.prob is needed")
    horizontal_flip: WithProbability = setting(help="horizontal_flip.prob is needed")
    crop_size: Any = setting(help="height and width in pixels", check=_size)
    num_crops: int = setting(help="views that it gives", low=1)
    mean: Any = setting(ABSENT, check=_channels)
    std: Any = setting(ABSENT, check=_channels)


@dataclass
class Backbone:
    """``backbone``."""

    name: str = setting(help="one of the host's backbones")
    kwargs: dict[str, Any] | None = setting(ABSENT)


@dataclass
class Data:
    """``data``."""

    dataset: str = setting(help="a data set's name")
    train_path: str | None = setting(ABSENT)
    val_path: str | None = setting(ABSENT)
    format: str = setting(ABSENT, choices=("image_folder", "h5", "dali"))
    num_workers: int = setting(ABSENT, low=0)
    fraction: float = setting(ABSENT)
    train_subset: str | None = setting(ABSENT)
    crop_to_box: bool = setting(ABSENT)
    no_labels: bool = setting(ABSENT)
    unreadable: str = setting(ABSENT, choices=("stop", "skip"))
    color: bool = setting(ABSENT)
    augment: str = setting(ABSENT, choices=("image", "batch"))
    in_memory: bool = setting(ABSENT)


@dataclass
class Optimizer:
    """``optimizer``."""

    name: str = setting(help="the optimiser", choices=("sgd", "lars", "adam", "adamw"))
    batch_size: int = setting(help="images a process and step", low=2)
    lr: float = setting(help="learning rate of 256 images a step", low=0)
    weight_decay: float = setting(ABSENT, low=0)
    exclude_bias_n_norm_wd: bool = setting(ABSENT)
    kwargs: dict[str, Any] | None = setting(ABSENT)


@dataclass
class LinearOptimizer(Optimizer):
    """``optimizer`` of linear evaluation and fine-tuning."""

    classifier_lr: float | None = setting(ABSENT, low=0)


@dataclass
class PretrainOptimizer(Optimizer):
    """``optimizer`` of pre-training."""

    classifier_lr: float = setting(help="learning rate of the online classifier", low=0)
    bias_lr_ratio: float = setting(ABSENT, above=0)


@dataclass
class PretrainScheduler(LinearSchedule):
    """``scheduler`` of pre-training."""

    name: str = setting(
        help="the schedule", choices=("warmup_cosine", "step", "none", BARLOW_COSINE)
    )
    final_lr_ratio: float = setting(ABSENT, low=0, high=1)
    first_epoch: float = setting(ABSENT, low=0)


@dataclass
class Checkpoint:
    """``checkpoint``."""

    enabled: bool = setting(ABSENT)
    dir: str = setting(ABSENT)
    frequency: int = setting(ABSENT, low=1)
    keep_prev: bool = setting(ABSENT)


@dataclass
class OnlineKNN:
    """``knn_eval``."""

    enabled: bool = setting(ABSENT)
    k: int = setting(ABSENT, low=1)
    distance_func: str = setting(ABSENT, choices=("cosine", "euclidean"))


@dataclass
class Switch:
    """A section of which only ``enabled`` is read here."""

    enabled: bool = setting(ABSENT)


@dataclass
class Performance:
    """``performance``."""

    disable_channel_last: bool = setting(ABSENT)
    compile: bool = setting(ABSENT)


@dataclass
class Numerics:
    """``numerics``, of `mixbt_plugin.apps.numerics`."""

    on_nonfinite: str = setting(ABSENT, choices=("stop", "skip"))
    max_skipped: int = setting(ABSENT, low=0)
    warn_of_collapse: bool = setting(ABSENT)


@dataclass
class Training:
    """What pre-training and linear evaluation share."""

    backbone: Backbone = setting(help="backbone.name is needed")
    data: Data = setting(help="data.dataset is needed")
    max_epochs: int = setting(help="epochs of training", low=1)
    name: str = setting(ABSENT)
    checkpoint: Checkpoint = setting(ABSENT)
    performance: Performance = setting(ABSENT)
    numerics: Numerics = setting(ABSENT)
    wandb: Switch = setting(ABSENT)
    tensorboard: Switch = setting(ABSENT)
    resume_from_checkpoint: str | None = setting(ABSENT)
    seed: int = setting(ABSENT, low=0, high=2**32 - 1)
    num_nodes: int = setting(ABSENT, low=1)
    accelerator: str = setting(ABSENT, choices=("auto", "gpu", "cuda", "cpu"))
    strategy: str | None = setting(ABSENT)
    precision: Any = setting(ABSENT, choices=PRECISIONS)
    sync_batchnorm: bool = setting(ABSENT)
    accumulate_grad_batches: int | None = setting(ABSENT, low=1)
    log_every_n_steps: int = setting(ABSENT, low=1)


@dataclass
class Pretraining(Training):
    """A config of ``mixbt-pretrain``, but for ``augmentations`` and ``method_kwargs``."""

    method: str = setting(help="one of the registered methods")
    optimizer: PretrainOptimizer = setting(help="optimizer.name is needed")
    scheduler: PretrainScheduler = setting(help="scheduler.name is needed")
    knn_eval: OnlineKNN = setting(ABSENT)
    pretrained_feature_extractor: str | None = setting(ABSENT)


@dataclass
class LinearEvaluation(LinearSettings, Training):
    """A config of ``mixbt-linear``."""

    pretrained_feature_extractor: str = setting(help="path of a checkpoint of pre-training")
    pretrain_method: str | None = setting(ABSENT)
    optimizer: LinearOptimizer = setting(help="optimizer.name is needed")
    scheduler: LinearSchedule = setting(help="scheduler.name is needed")
    label_smoothing: float = setting(ABSENT, low=0, high=1)
    mixup: float = setting(ABSENT, low=0)
    cutmix: float = setting(ABSENT, low=0)


def check_pretraining(cfg: DictConfig) -> None:
    """Checks a config of ``mixbt-pretrain`` and brings its values into their types.

    Args:
        cfg: composed, not yet parsed; changed in place.

    Raises:
        ValueError: names the key, the value and what would be right.
    """
    _check(cfg, Pretraining)
    require_known("method", cfg.method, METHODS)
    cfg.augmentations = _checked_pipelines(cfg.get("augmentations"))
    for info in list_methods(baselines=True):
        if info.name == cfg.method:
            parse_settings(info.method.Settings, cfg.get("method_kwargs"), cfg.method)
    _check_optimization(cfg)
    if cfg.data.get("format") == "dali":
        check_dali(cfg)


def _check_optimization(cfg: DictConfig) -> None:
    ours = [info.name for info in list_methods()]
    if cfg.method not in ours and (
        cfg.scheduler.name == BARLOW_COSINE or "bias_lr_ratio" in cfg.optimizer
    ):
        raise ValueError(
            f"scheduler.name={BARLOW_COSINE!r} and optimizer.bias_lr_ratio are for "
            f"{', '.join(ours)}; method={cfg.method!r} is the host's."
        )
    for key in ("final_lr_ratio", "first_epoch"):
        if key in cfg.scheduler and cfg.scheduler.name != BARLOW_COSINE:
            raise ValueError(
                f"scheduler.{key} with scheduler.name={cfg.scheduler.name!r}: it is for "
                f"{BARLOW_COSINE!r}."
            )


def check_linear(cfg: DictConfig) -> None:
    """`check_pretraining` for a config of ``mixbt-linear``."""
    _check(cfg, LinearEvaluation)
    if cfg.get("augmentations"):
        cfg.augmentations = _checked_pipelines(cfg.augmentations)
    if cfg.data.get("format") == "dali":
        if cfg.get("augmentations") is not None:
            raise ValueError(
                "augmentations with data.format='dali': solo-learn's DALI loaders crop and mirror "
                "for linear evaluation; leave it out, or use data.format=image_folder."
            )
        check_dali(cfg)


def _check(cfg: DictConfig, declaration: type[Any]) -> None:
    try:
        given = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"the config cannot be resolved: {error}") from error
    open_to = (*OTHERS_KEYS, *inspect.signature(Trainer).parameters)
    for key, value in check_section(declaration, given, open_to=open_to).items():
        cfg[key] = value
    require_known("data.dataset", cfg.data.dataset, PROPERTIES)
    check_data(cfg)
    require_known("backbone.name", cfg.backbone.name, BaseMethod._BACKBONES)
    _try_to_build(cfg)


def _checked_pipelines(pipelines: Any) -> list[dict[str, Any]]:
    if not isinstance(pipelines, ListConfig) or not pipelines:
        raise ValueError(f"augmentations={pipelines!r}: expected a list of pipelines.")
    return [
        _checked_pipeline(pipeline, f"augmentations[{place}]")
        for place, pipeline in enumerate(OmegaConf.to_container(pipelines))  # type: ignore[arg-type]
    ]


def _checked_pipeline(given: Any, path: str) -> dict[str, Any]:
    pipeline = check_section(Pipeline, given, path, open_to=())
    rrc, jitter = pipeline["rrc"], pipeline["color_jitter"]
    low, high = rrc.get("crop_min_scale"), rrc.get("crop_max_scale")
    if rrc["enabled"] and (low is None or high is None or low > high):
        raise ValueError(
            f"{path}.rrc has crop_min_scale={low}, crop_max_scale={high}: expected shares of the "
            "image, the first not above the second."
        )
    for key in ("brightness", "contrast", "saturation", "hue"):
        if jitter["prob"] and jitter.get(key) is None:
            raise ValueError(f"{path}.color_jitter.{key} is missing, and prob is not 0.")
    return pipeline


def _try_to_build(cfg: DictConfig) -> None:
    """Builds backbone and optimiser with the kwargs given, for what only they know of them."""
    kwargs = dict(OmegaConf.select(cfg, "backbone.kwargs") or {})
    if kwargs:
        try:
            with torch.device("meta"):
                BaseMethod._BACKBONES[cfg.backbone.name](method=cfg.get("method"), **kwargs)
        except Exception as error:
            raise ValueError(
                f"backbone.kwargs={kwargs}: {cfg.backbone.name} does not take them ({error})."
            ) from error
    kwargs = dict(OmegaConf.select(cfg, "optimizer.kwargs") or {})
    optimizer: Any = BaseMethod._OPTIMIZERS[cfg.optimizer.name]
    try:
        optimizer(
            [torch.zeros(1, requires_grad=True)],
            lr=cfg.optimizer.lr,
            weight_decay=cfg.optimizer.get("weight_decay", 0),
            **kwargs,
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"optimizer.kwargs={kwargs}: {cfg.optimizer.name} does not take them ({error})."
        ) from error
