"""Which runs a comparison means; everything that is wrong with one of them is found here."""

from __future__ import annotations

import subprocess
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from math import floor
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mixbt_plugin import __version__
from mixbt_plugin.apps import training
from mixbt_plugin.apps.command import PACKAGE, shipped_or_own
from mixbt_plugin.apps.comparison.evaluator import MEASURES_FILE
from mixbt_plugin.apps.comparison.images import evaluation_images
from mixbt_plugin.apps.image_sizes import fit_backbone_to_views
from mixbt_plugin.apps.overrides import adding_new_keys, first_key, refuse_unread
from mixbt_plugin.apps.schema import check_pretraining
from mixbt_plugin.data import as_tensor, pretrain_dataset, require_a_batch
from mixbt_plugin.host import METHODS, parse_pretrain_cfg
from mixbt_plugin.keys import CompareArm, CompareConfig, PretrainConfig, complete
from mixbt_plugin.settings import ConfigError, flattened

RUN_FILE = "run.yaml"
CHECKPOINTS = 40
"""About so many times a run saves what it can be resumed from."""
SPEED_EPOCHS = 4
"""Of the runs that measure the speed; the first is not counted."""
MAY_DIFFER = (
    *("version", "cfg.data.train_path", "cfg.data.val_path", "cfg.data.num_workers"),
    *("cfg.checkpoint.dir", "cfg.checkpoint.frequency", "cfg.check_val_every_n_epoch"),
)
"""Of a run that is done or goes on; the last two follow from the epochs."""
SAID_BY = {
    "seed": "seeds",
    "max_epochs": "budget.amount",
    "check_val_every_n_epoch": "evaluation.epochs",
    "knn_eval": "evaluation",
    "checkpoint": "output_dir",
    "resume_from_checkpoint": "output_dir, whose runs go on by themselves",
    "enable_progress_bar": "each run's log.txt, where none is of use",
    "num_sanity_val_steps": "evaluation, which replaces the online validation",
}
"""What a comparison sets in each run's config, and what says it there."""


@dataclass
class Run:
    """A training and its evaluations, as ``run.yaml`` in its folder says it.

    Attributes:
        folder: where it happens.
        arm: its name.
        seed: its seed.
        epochs: after which it is measured, the last being the end.
        clock: what its seconds are counted by.
        evaluation: the probes' settings; None measures the time and the loss alone.
        version: of the code.
        cfg: of the pre-training, composed, as plain values.
    """

    folder: Path
    arm: str
    seed: int
    epochs: list[int]
    clock: str
    evaluation: dict[str, Any] | None
    version: str
    cfg: dict[str, Any]

    def write(self) -> None:
        """Writes ``run.yaml``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(self._content()), self.folder / RUN_FILE)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run of a folder."""
        content: Any = OmegaConf.to_container(OmegaConf.load(folder / RUN_FILE))
        return cls(folder=folder, **content)

    def is_done(self) -> bool:
        """Whether its last epoch is measured."""
        path = self.folder / MEASURES_FILE
        return path.is_file() and int(pd.read_csv(path).epoch.max()) == self.epochs[-1]

    def refuse_another(self) -> None:
        """Raises ValueError where the folder holds a run that is not this one."""
        if not (self.folder / RUN_FILE).is_file():
            return
        theirs, ours = (flattened(run._completed()) for run in (Run.read(self.folder), self))
        for key in sorted({*theirs, *ours} - set(MAY_DIFFER)):
            if theirs.get(key) != ours.get(key):
                raise ConfigError(
                    f"output_dir: {self.folder} holds a run with {key}={theirs.get(key)!r}, and "
                    f"this comparison has {ours.get(key)!r}. Give the arm another name or the "
                    "comparison another output_dir."
                )

    def _completed(self) -> dict[str, Any]:
        """With the defaults of keys that there were not yet when it was written."""
        cfg = OmegaConf.create(self.cfg)
        complete(cfg, PretrainConfig)
        return {**self._content(), "cfg": OmegaConf.to_container(cfg)}

    def _content(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def check_arms(comparison: CompareConfig) -> dict[str, DictConfig]:
    """Composes and checks each arm's config as ``mixbt-pretrain`` would.

    Returns:
        The configs by arm, composed, not parsed, with the paths and keys of their runs.

    Raises:
        ValueError: names the arm, the key, the value and what would be right.
    """
    configs = {}
    for name in comparison.arms:
        try:
            configs[name] = composed_arm(comparison.arm(name), comparison)
            _check_arm(configs[name], comparison)
        except (ValueError, HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"arms.{name}: {error}") from error
    return configs


def composed_arm(arm: CompareArm, comparison: CompareConfig) -> DictConfig:
    """An arm's config of pre-training, without what its runs differ in."""
    path = Path(arm.config)
    folder = shipped_or_own(str(path.parent), "pretrain")
    if folder is None:
        raise ConfigError(f"config={arm.config!r}: no such folder, here or among the shipped ones.")
    if not (folder / f"{path.name}.yaml").is_file():
        raise ConfigError(f"config={arm.config!r}: there is no {path.name}.yaml in {folder}.")
    GlobalHydra.instance().clear()  # of the command itself, which has composed its config
    with initialize_config_dir(str(folder), version_base="1.2"):
        overrides = [*comparison.overrides, *arm.overrides]
        cfg = adding_new_keys(lambda words: compose(path.name, words), overrides)
    refuse_unread(cfg, overrides)
    _refuse_replaced(overrides)
    OmegaConf.set_struct(cfg, False)
    # The evaluator measures instead, and what is not trained on costs no time.
    cfg.update({"knn_eval": {"enabled": False}, "num_sanity_val_steps": 0})
    cfg.update({"enable_progress_bar": False, "resume_from_checkpoint": "auto"})
    return cfg


def _refuse_replaced(overrides: list[str]) -> None:
    for word in overrides:
        key = first_key(word)
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


def _check_arm(composed: DictConfig, comparison: CompareConfig) -> None:
    no_labels, val_path = composed.data.get("no_labels"), composed.data.get("val_path")
    if composed.data.dataset == "custom" and (no_labels or val_path is None):
        raise ConfigError(
            f"data.no_labels={no_labels}, data.val_path={val_path}: a comparison measures with "
            "labelled images; expected class folders in data.train_path and data.val_path."
        )
    cfg = parsed(composed)
    with torch.device("meta"):
        METHODS[cfg.method](cfg)
    for key in ("max_steps", "max_time", "fast_dev_run"):
        if cfg.get(key) not in (None, -1, False):
            raise ConfigError(f"{key}={cfg[key]!r}: budget says when the runs of a comparison end.")
    if cfg.data.get("format") == "dali":
        raise ConfigError("data.format='dali': expected image_folder or h5 in a comparison.")
    cpu_clock = comparison.budget.clock == "cpu"
    if cpu_clock and (training.on_gpu(cfg) or len(cfg.devices) > 1 or cfg.data.num_workers):
        raise ConfigError(
            f"budget.clock='cpu' with devices={list(cfg.devices)}, data.num_workers="
            f"{cfg.data.num_workers}: it counts one process; expected one on the CPU, and "
            "data.num_workers=0."
        )
    _spent_in_an_epoch(cfg, "steps")  # which refuses an epoch without a batch
    evaluation_images(cfg, comparison.evaluation)


def plan_runs(
    comparison: CompareConfig, configs: dict[str, DictConfig], epochs: dict[str, int]
) -> list[Run]:
    """All runs, seed by seed, so that what is done first can be compared.

    Args:
        comparison: checked.
        configs: of `check_arms`.
        epochs: of each arm.

    Raises:
        ValueError: an evaluation lies beyond an arm's last epoch, or ``output_dir`` holds another
            run under the same name.
    """
    runs = [
        _run(comparison, name, cfg, seed, epochs[name])
        for seed in comparison.seeds
        for name, cfg in configs.items()
    ]
    for run in runs:
        run.refuse_another()
    return runs


def _run(comparison: CompareConfig, arm: str, cfg: DictConfig, seed: int, last: int) -> Run:
    folder = Path(comparison.output_dir).resolve() / "runs" / arm / f"seed{seed}"
    measured = evaluated_epochs(comparison.evaluation.epochs, last)
    return Run(
        folder=folder,
        arm=arm,
        seed=seed,
        epochs=measured,
        clock=comparison.budget.clock,
        evaluation=comparison.evaluation.model_dump(),
        version=code_version(),
        cfg=_of_run(cfg, folder, seed, last),
    )


def _of_run(cfg: DictConfig, folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(cfg)  # interpolations stay: what they name is known
    return {
        **plain,
        "seed": seed,
        "max_epochs": epochs,
        "check_val_every_n_epoch": epochs + 1,
        "checkpoint": {
            "enabled": True,
            "dir": str(folder),
            "frequency": max(1, epochs // CHECKPOINTS),
            "keep_prev": False,
        },
    }


def evaluated_epochs(wanted: int | list[int], last: int) -> list[int]:
    """The untrained network's 0, the epochs that are wanted, and the last.

    Args:
        wanted: the epochs, or how many, evenly spaced.
        last: of the run.

    Raises:
        ValueError: one is beyond the last.
    """
    if isinstance(wanted, list):
        if max(wanted) > last:
            raise ConfigError(f"evaluation.epochs={wanted}: the last epoch is {last}.")
        return sorted({0, *wanted, last})
    return sorted({0, *(max(1, round(last * n / wanted)) for n in range(1, wanted + 1))})


def speed_runs(comparison: CompareConfig, configs: dict[str, DictConfig]) -> dict[str, Run]:
    """Short runs of each arm, without evaluations, that tell how long an epoch takes."""
    runs = {}
    for arm, cfg in configs.items():
        folder = Path(comparison.output_dir).resolve() / "speed" / arm
        seed = comparison.seeds[0]
        runs[arm] = Run(
            folder=folder,
            arm=arm,
            seed=seed,
            epochs=[1, SPEED_EPOCHS],
            clock=comparison.budget.clock,
            evaluation=None,
            version=code_version(),
            cfg=_of_run(cfg, folder, seed, SPEED_EPOCHS),
        )
        runs[arm].refuse_another()
    return runs


def epochs_within(
    comparison: CompareConfig, configs: dict[str, DictConfig], speed: dict[str, Run]
) -> dict[str, int]:
    """How many whole epochs of each arm come nearest to the budget, at least one.

    Args:
        comparison: checked.
        configs: of `check_arms`.
        speed: of `speed_runs`, done, where the budget is of seconds.
    """
    budget = comparison.budget
    if budget.unit == "epochs":
        return {name: int(budget.amount) for name in configs}
    if budget.unit == "seconds":
        spent = {name: seconds_per_epoch(run) for name, run in speed.items()}
    else:
        spent = {
            name: _spent_in_an_epoch(parsed(cfg), budget.unit) for name, cfg in configs.items()
        }
    return {name: max(1, round(budget.amount / each)) for name, each in spent.items()}


def seconds_per_epoch(run: Run) -> float:
    """Of a run that is done: the mean, the first epoch left out."""
    seconds = pd.read_csv(run.folder / MEASURES_FILE).groupby("epoch").seconds.first()
    return float(seconds[SPEED_EPOCHS] - seconds[1]) / (SPEED_EPOCHS - 1)


def _spent_in_an_epoch(cfg: DictConfig, unit: str) -> int:
    images = len(pretrain_dataset(cfg, as_tensor))  # type: ignore[arg-type]
    processes = len(cfg.devices) * cfg.num_nodes
    require_a_batch(cfg, images, processes)
    batches = floor(images / processes) // cfg.optimizer.batch_size
    limit = cfg.get("limit_train_batches")
    if limit is not None:
        there = batches
        batches = min(there, limit) if isinstance(limit, int) else int(there * limit)
        if not batches:
            raise ConfigError(
                f"limit_train_batches={limit}: leaves none of an epoch's {there} batches."
            )
    if unit == "images":
        return batches * processes * int(cfg.optimizer.batch_size)
    return -(-batches // int(cfg.accumulate_grad_batches or 1))


def code_version() -> str:
    """The package's version and, of a checkout, the commit; ``.dirty`` where files differ."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty=.dirty", "--abbrev=9"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__}+g{described.stdout.strip()}"
