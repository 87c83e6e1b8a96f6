"""The arms of a comparison, composed and checked: what is wrong with one of them is found here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mixbt_plugin.apps import training
from mixbt_plugin.apps.command import shipped_or_own
from mixbt_plugin.apps.comparison.images import evaluation_images
from mixbt_plugin.apps.image_sizes import fit_backbone_to_views
from mixbt_plugin.apps.overrides import (
    adding_new_keys,
    first_key,
    in_words,
    refuse_unread,
    with_quoted_paths,
)
from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.apps.weights import start_from
from mixbt_plugin.data import as_tensor, pretrain_dataset, require_a_batch
from mixbt_plugin.host import METHODS, parse_pretrain_cfg
from mixbt_plugin.keys import CompareArm, CompareConfig
from mixbt_plugin.settings import ConfigError

SAID_BY = {
    "seed": "seeds",
    "max_epochs": "budget.amount",
    "check_val_every_n_epoch": "evaluation.epochs",
    "num_sanity_val_steps": "evaluation, which replaces the online validation",
    "knn_eval": "evaluation",
    "checkpoint": "output_dir",
    "resume_from_checkpoint": "output_dir, whose runs go on by themselves",
    "enable_progress_bar": "each run's log.txt, where none is of use",
}
"""What a comparison sets in each run's config, and what says it there."""
UNREAD = {
    "hydra": "an arm is composed, not run by Hydra",
    "limit_val_batches": "evaluation replaces the online validation",
}
"""What would change nothing in a run."""


class Arm(NamedTuple):
    """An arm that has been checked.

    Attributes:
        cfg: of pre-training, composed, not parsed, without what its runs differ in.
        steps: of the optimiser in an epoch.
        images: that an epoch's batches hold, over all processes.
    """

    cfg: DictConfig
    steps: int
    images: int


def check_arms(comparison: CompareConfig) -> dict[str, Arm]:
    """Composes and checks each arm's config as ``mixbt-pretrain`` would.

    Returns:
        The arms by name.

    Raises:
        ValueError: names the arm, the key, the value and what would be right.
    """
    arms, measured_on = {}, {}
    for name in comparison.arms:
        with named(name):
            composed = composed_arm(comparison.arm(name), comparison)
            cfg = _checked(composed, comparison)
            arms[name] = Arm(composed, *_of_an_epoch(cfg))
            measured_on[name] = evaluation_images(cfg, comparison.evaluation).digest
    _require_the_same(measured_on)
    return arms


@contextmanager
def named(arm: str) -> Iterator[None]:
    """What is wrong is said with the arm's name.

    Raises:
        ConfigError: in place of what Hydra, OmegaConf or a check raises.
    """
    try:
        yield
    except (ValueError, HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"arms.{arm}: {in_words(error)}") from error


def composed_arm(arm: CompareArm, comparison: CompareConfig) -> DictConfig:
    """An arm's config of pre-training, without what its runs differ in."""
    path = Path(arm.config.removesuffix(".yaml"))
    folder = shipped_or_own(str(path.parent), "pretrain")
    if folder is None:
        raise ConfigError(f"config={arm.config!r}: no such folder, here or among the shipped ones.")
    if not (folder / f"{path.name}.yaml").is_file():
        raise ConfigError(f"config={arm.config!r}: there is no {path.name}.yaml in {folder}.")
    GlobalHydra.instance().clear()  # of the command itself, which has composed its config
    with initialize_config_dir(str(folder), version_base="1.2"):
        overrides = with_quoted_paths([*comparison.overrides, *arm.overrides])
        cfg = adding_new_keys(lambda words: compose(path.name, words), overrides)
    refuse_unread(cfg, overrides)
    _refuse_replaced(overrides)
    OmegaConf.set_struct(cfg, False)
    # The evaluator measures instead, and what is not trained on costs no time.
    cfg.update({"knn_eval": {"enabled": False}, "num_sanity_val_steps": 0})
    cfg.update({"enable_progress_bar": False, "resume_from_checkpoint": "auto"})
    if comparison.budget.unit == "epochs":
        cfg.max_epochs = int(comparison.budget.amount)
    elif cfg.get("max_epochs") is None:
        cfg.max_epochs = 1  # until the budget's number is known
    return cfg


def _refuse_replaced(overrides: list[str]) -> None:
    for word in overrides:
        key = first_key(word)
        if key in UNREAD:
            raise ConfigError(f"{word}: {UNREAD[key]}; expected no override.")
        if key in SAID_BY:
            raise ConfigError(
                f"{word}: a comparison sets {key} itself, by {SAID_BY[key]}; expected no override."
            )


def parsed(composed: DictConfig) -> DictConfig:
    """A composed config of pre-training as a method gets it."""
    cfg = composed.copy()
    with redirect_stdout(StringIO()):  # a run's own process says what is trained
        training.prepare(cfg, check_pretraining)
    cfg = parse_pretrain_cfg(cfg)
    fit_backbone_to_views(cfg)
    return cfg


def _checked(composed: DictConfig, comparison: CompareConfig) -> DictConfig:
    no_labels, val_path = composed.data.get("no_labels"), composed.data.get("val_path")
    if composed.data.dataset == "custom" and (no_labels or val_path is None):
        raise ConfigError(
            f"data.no_labels={no_labels}, data.val_path={val_path}: a comparison measures with "
            "labelled images; expected class folders in data.train_path and data.val_path."
        )
    with warnings.catch_warnings():
        if comparison.budget.unit != "epochs":
            warnings.simplefilter("ignore")  # of a number of epochs that is not this arm's yet
        cfg = parsed(composed)
    for key in ("max_steps", "max_time", "fast_dev_run"):
        if cfg.get(key) not in (None, -1, False):
            raise ConfigError(f"{key}={cfg[key]!r}: budget says when the runs of a comparison end.")
    if cfg.data.get("format") == "dali":
        raise ConfigError("data.format='dali': expected image_folder or h5 in a comparison.")
    if cfg.num_nodes > 1:
        raise ConfigError(
            f"num_nodes={cfg.num_nodes}: a comparison starts its runs on this machine; expected 1."
        )
    if comparison.budget.clock == "cpu":
        _require_one_process(cfg)
    _build(cfg)
    return cfg


def _require_one_process(cfg: DictConfig) -> None:
    wrong = {
        f"accelerator={cfg.get('accelerator') or 'auto'}, a GPU here": training.on_gpu(cfg),
        f"devices={list(cfg.devices)}": len(cfg.devices) > 1,
        f"data.num_workers={cfg.data.num_workers}": cfg.data.num_workers,
    }
    if any(wrong.values()):
        given = ", ".join(text for text, is_wrong in wrong.items() if is_wrong)
        raise ConfigError(
            f"{given} with budget.clock=cpu: it counts one process; expected accelerator=cpu, "
            "devices=1 and data.num_workers=0, or budget.clock=wall."
        )


def _build(cfg: DictConfig) -> None:
    """Builds the network without its values, and looks whether given weights fit it."""
    with torch.device("meta"):
        model = METHODS[cfg.method](cfg)
    given = cfg.get("pretrained_feature_extractor")
    if given is not None:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a run says what there is to say
            start_from(model, given)


def _of_an_epoch(cfg: DictConfig) -> tuple[int, int]:
    """Steps and images of an epoch.

    Raises:
        ConfigError: it has no batch.
    """
    counted = cfg.copy()
    counted.data.in_memory = False  # nothing is decoded to be counted
    images = len(pretrain_dataset(counted, as_tensor))  # type: ignore[arg-type]
    processes = len(cfg.devices)
    require_a_batch(cfg, images, processes)
    batch_size = int(cfg.optimizer.batch_size)
    batches = images // processes // batch_size
    limit = cfg.get("limit_train_batches")
    if limit is not None:
        there = batches
        batches = min(there, limit) if isinstance(limit, int) else int(there * limit)
        if not batches:
            raise ConfigError(
                f"limit_train_batches={limit}: leaves none of an epoch's {there} batches."
            )
    steps = -(-batches // int(cfg.accumulate_grad_batches or 1))
    return steps, batches * processes * batch_size


def _require_the_same(measured_on: dict[str, str]) -> None:
    (first, images), *others = measured_on.items()
    for name, found in others:
        if found != images:
            raise ConfigError(
                f"arms.{name}: is measured on other images than arms.{first}; expected the same "
                "data.dataset and data.val_path in all arms, and, with evaluation.split=validation,"
                " the same data.fraction and data.train_subset too."
            )
