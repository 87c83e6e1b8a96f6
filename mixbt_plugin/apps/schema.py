"""Checks of the commands' configs before anything else: each key, and keys against each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mixbt_plugin.apps.overrides import RECIPE_KEYS, mentions
from mixbt_plugin.apps.pictures import require_matplotlib
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.training import device_ids, on_gpu, require_backbone, require_known
from mixbt_plugin.data import PROPERTIES, SOURCES, check_dali, check_data
from mixbt_plugin.host import METHODS, BaseMethod
from mixbt_plugin.keys import (
    SOLO_LEARN_SCRIPT,
    CompareConfig,
    DiagnoseConfig,
    EmbedConfig,
    ExportConfig,
    KNNConfig,
    LinearConfig,
    PretrainConfig,
    PretrainScheduler,
)
from mixbt_plugin.methods.base import ProjectorMethod
from mixbt_plugin.methods.method_settings import parse_settings
from mixbt_plugin.registry import list_methods, methods_for_more_views
from mixbt_plugin.settings import (
    ConfigError,
    MissingPackageError,
    Section,
    check,
    pipeline_names,
    plain,
)


def check_pretraining(cfg: DictConfig) -> None:
    """Checks a config of ``mixbt-pretrain``, brings its values into their types, fills in defaults.

    Args:
        cfg: composed, not yet parsed; changed in place.

    Raises:
        ConfigError: names the keys, their values and what would be right.
    """
    complete_pretraining(cfg)
    _check_training(cfg)
    _refuse(_contradictions_of_pretraining(cfg))
    _check_views(cfg)
    if cfg.diagnostics.picture:
        require_matplotlib(f"diagnostics.picture={cfg.diagnostics.picture}")
    if cfg.data.format == "dali":
        check_dali(cfg)


def complete_pretraining(cfg: DictConfig) -> None:
    """The part of `check_pretraining` that asks neither the machine nor the data.

    Each key is checked by itself, and all defaults are filled in, those of ``method_kwargs`` too.
    """
    check_keys(cfg, PretrainConfig)
    known = [name for name, method in METHODS.items() if _is_a_method(method)]
    require_known("method", cfg.method, known)
    for info in list_methods(baselines=True):
        if info.name == cfg.method:
            settings = parse_settings(info.method.Settings, cfg.method_kwargs, cfg.method)
            cfg.method_kwargs = settings.model_dump()


def check_linear(cfg: DictConfig) -> None:
    """`check_pretraining` for a config of ``mixbt-linear``."""
    check_keys(cfg, LinearConfig)
    _check_training(cfg)
    if cfg.data.format == "dali":
        if cfg.augmentations is not None:
            raise ConfigError(
                "augmentations with data.format='dali': solo-learn's DALI loaders crop and mirror "
                "for linear evaluation; leave it out, or use data.format=image_folder."
            )
        check_dali(cfg)


def check_keys(cfg: DictConfig, declaration: type[Section]) -> None:
    """Checks each key by itself, brings the values into their types and fills in defaults.

    A key that is not declared may stand in the config where others are interpolated from it, as
    pipelines are from ``view``.

    Args:
        cfg: composed; changed in place.
        declaration: of the command's keys.

    Raises:
        ConfigError: a line for each fault.
    """
    OmegaConf.set_struct(cfg, False)
    try:
        given: dict[str, Any] = plain(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(f"the config cannot be resolved: {error}") from error
    unread = [key for key in SOLO_LEARN_SCRIPT if given.pop(key, None) is not None]
    if unread:
        say("unread", f"{', '.join(unread)}: only solo-learn's own script reads this")
    written = OmegaConf.to_container(cfg, resolve=False)
    for name in set(given) - set(declaration.model_fields):
        if name in RECIPE_KEYS or mentions(written, str(name)):
            del given[name]
    names = pipeline_names(cfg)
    places = {f"augmentations[{place}]": name for place, name in enumerate(names)}
    checked = check(declaration, given, names=places).model_dump()
    pipelines = checked.pop("augmentations", None)
    cfg.update(checked)
    if names:
        for name, pipeline in zip(names, pipelines or []):
            OmegaConf.update(cfg, name, pipeline, merge=False)
    elif "augmentations" in declaration.model_fields:
        cfg.augmentations = pipelines


def _is_a_method(registered: Any) -> bool:
    """solo-learn registers its base class and its linear model beside the methods."""
    return issubclass(registered, BaseMethod) and registered is not BaseMethod


def _ours() -> list[str]:
    """Methods on this plugin's base class, but for those that a host may bring itself."""
    return [info.name for info in list_methods() if issubclass(info.method, ProjectorMethod)]


def _check_training(cfg: DictConfig) -> None:
    require_known("data.dataset", cfg.data.dataset, PROPERTIES)
    check_data(cfg)
    _check_devices(cfg)
    _refuse(_contradictions_of_training(cfg))
    _warn_of_schedule(cfg)
    require_backbone(cfg)


def _refuse(contradictions: Iterator[str]) -> None:
    if text := "\n".join(contradictions):
        raise ConfigError(text)


def _check_devices(cfg: DictConfig) -> None:
    given, gpu = cfg.get("devices"), on_gpu(cfg)
    ids = device_ids(given, gpu)
    there = torch.cuda.device_count() if gpu else 4 * (os.cpu_count() or 1)
    if max(ids) >= there:
        what = f"{there} GPU(s)" if gpu else f"{os.cpu_count()} CPU cores"
        raise ConfigError(f"devices={given!r}: there are {what} here.")


def _images_a_step(cfg: DictConfig) -> int:
    """A batch of each process."""
    processes: int = len(device_ids(cfg.devices, on_gpu(cfg))) * cfg.num_nodes
    return processes * int(cfg.optimizer.batch_size)


def _contradictions_of_training(cfg: DictConfig) -> Iterator[str]:
    schedule = cfg.scheduler
    if schedule.name == "step" and not schedule.lr_decay_steps:
        yield (
            "scheduler.lr_decay_steps is missing: the epochs at which scheduler.name=step lowers "
            "the learning rate, such as [60, 80]."
        )
    lr = cfg.optimizer.lr * _images_a_step(cfg) / 256
    if schedule.name in ("warmup_cosine", "cosine") and schedule.min_lr > lr:
        yield (
            f"scheduler.min_lr={schedule.min_lr:g} is above the learning rate in effect, "
            f"{lr:g} (optimizer.lr={cfg.optimizer.lr:g} times batch_size x devices / 256): "
            "expected at most that."
        )
    if cfg.gradient_clip_algorithm is not None and not cfg.gradient_clip_val:
        yield (
            f"gradient_clip_algorithm={cfg.gradient_clip_algorithm!r} without gradient_clip_val: "
            "expected the largest gradient there."
        )
    if cfg.profiler is not None and cfg.fast_dev_run:
        yield (
            f"profiler={cfg.profiler!r} with fast_dev_run={cfg.fast_dev_run}: its report is a file "
            "of the run's folder, and fast_dev_run makes none; limit_train_batches takes few."
        )


def _contradictions_of_pretraining(cfg: DictConfig) -> Iterator[str]:
    ours = _ours()
    barlow = cfg.scheduler.name == "barlow_cosine"
    if cfg.method not in ours and (barlow or cfg.optimizer.bias_lr_ratio is not None):
        yield (
            "scheduler.name='barlow_cosine' and optimizer.bias_lr_ratio are for "
            f"{', '.join(ours)}; method={cfg.method!r} is the host's."
        )
    if cfg.method in ours and cfg.momentum is not None:
        yield f"momentum: method={cfg.method!r} has no momentum encoder; expected null."
    for key in ("final_lr_ratio", "first_epoch"):
        if not barlow and cfg.scheduler[key] != PretrainScheduler.model_fields[key].default:
            yield (
                f"scheduler.{key}={cfg.scheduler[key]} with scheduler.name="
                f"{cfg.scheduler.name!r}: it is for 'barlow_cosine'."
            )
    batch = _images_a_step(cfg)
    if cfg.diagnostics.enabled and cfg.diagnostics.images < batch:
        yield (
            f"diagnostics.images={cfg.diagnostics.images}: expected at least a batch for each "
            f"process, {batch}."
        )
    validated = cfg.knn_eval.enabled or cfg.diagnostics.enabled or cfg.diagnostics.picture
    unlabelled, val_path = cfg.data.no_labels, cfg.data.val_path
    if unlabelled and cfg.data.dataset == "custom" and val_path is not None and not validated:
        yield (
            f"data.val_path={val_path!r} with data.no_labels=True: without labels nothing is "
            "validated; expected data.val_path=null, or knn_eval.enabled=true, which classifies "
            "each of these images by the others, or diagnostics.enabled=true."
        )
    if cfg.knn_eval.enabled and val_path is None and cfg.data.dataset not in SOURCES:
        yield (
            "knn_eval.enabled=True with data.val_path=None: there are no images to classify; "
            "expected data.val_path, a folder of class folders, or knn_eval.enabled=false."
        )


def _warn_of_schedule(cfg: DictConfig) -> None:
    schedule, epochs = cfg.scheduler, cfg.max_epochs
    if "warmup" in schedule.name or schedule.name == "barlow_cosine":
        if schedule.warmup_epochs > epochs:
            rank_zero_warn(
                f"scheduler.warmup_epochs={schedule.warmup_epochs:g} is longer than "
                f"max_epochs={epochs}: the learning rate never exceeds "
                f"{epochs / schedule.warmup_epochs:.0%} of optimizer.lr. "
                "scheduler.warmup_epochs=0 has no warm-up."
            )
    elif schedule.name == "step" and min(schedule.lr_decay_steps) >= epochs:
        rank_zero_warn(
            f"scheduler.lr_decay_steps={list(schedule.lr_decay_steps)} with max_epochs={epochs}: "
            "the learning rate is never lowered."
        )


def _check_views(cfg: DictConfig) -> None:
    """What the method says too, but with the names that a pipeline is overridden by."""
    most = getattr(METHODS[cfg.method], "max_views", None)
    if most is None:
        return
    pipelines = list(zip(pipeline_names(cfg), cfg.augmentations))
    sizes = {f"{name}.crop_size={one.crop_size}": plain(one.crop_size) for name, one in pipelines}
    if any(size != plain(cfg.augmentations[0].crop_size) for size in sizes.values()):
        raise ConfigError(
            f"{' with '.join(sizes)}: {cfg.method} takes {most} views of one crop_size; expected "
            f"the same in all. For views of several sizes take {methods_for_more_views()}."
        )
    if sum(one.num_crops for _, one in pipelines) != most:
        counts = ", ".join(f"{name}.num_crops={one.num_crops}" for name, one in pipelines)
        raise ConfigError(f"{counts}: {cfg.method} takes {most} views together.")


def check_knn(cfg: DictConfig) -> None:
    """Checks a config of ``mixbt-knn``."""
    _check_evaluation(cfg, KNNConfig)
    _check_devices(cfg)


def check_export(cfg: DictConfig) -> None:
    """Checks a config of ``mixbt-export``."""
    _check_evaluation(cfg, ExportConfig)
    for key, value in cfg.data.items():
        if key not in ("dataset", "augmentations") and value is not None:
            raise ConfigError(f"data.{key}={value!r}: an export reads no images; expected null.")


def check_embed(cfg: DictConfig) -> None:
    """Checks a config of ``mixbt-embed``."""
    _check_evaluation(cfg, EmbedConfig)
    _check_devices(cfg)
    if cfg.format == "parquet" and find_spec("pyarrow") is None:
        raise MissingPackageError("format='parquet' needs pyarrow: pip install pyarrow.")
    if cfg.queries or cfg.picture:
        require_matplotlib("a picture (picture above 0, or queries)")


def check_diagnose(cfg: DictConfig) -> None:
    """Checks a config of ``mixbt-diagnose``."""
    _check_evaluation(cfg, DiagnoseConfig)
    _check_devices(cfg)
    if cfg.picture:
        require_matplotlib("picture=true")


def checked_comparison(cfg: DictConfig) -> CompareConfig:
    """A config of ``mixbt-compare``, checked, each arm's keys too."""
    for key in RECIPE_KEYS:
        if key in cfg:
            raise ConfigError(
                f"{key} is a key of recipes: expected overrides=['{key}.…'], or an arm's overrides."
            )
    check_keys(cfg, CompareConfig)
    comparison = check(CompareConfig, plain(cfg))
    for name in comparison.arms:
        comparison.arm(name)
    return comparison


def _check_evaluation(cfg: DictConfig, declaration: type[Section]) -> None:
    check_keys(cfg, declaration)
    if cfg.data.dataset is not None:
        require_known("data.dataset", cfg.data.dataset, PROPERTIES)
    if cfg.backbone.name is not None:
        require_backbone(cfg)
    elif cfg.pretrain_method is not None:
        raise ConfigError(
            f"pretrain_method={cfg.pretrain_method!r} without backbone.name: args.json beside the "
            "checkpoint says it; expected null, or backbone.name."
        )
