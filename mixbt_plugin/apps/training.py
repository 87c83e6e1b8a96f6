"""What pre-training and linear evaluation share: devices, loggers, trainer."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.apps.checkpointer import Checkpointer, check_name
from mixbt_plugin.apps.numerics import NumericalGuard
from mixbt_plugin.apps.printing import say
from mixbt_plugin.apps.replaced_images import LogReplacedImages
from mixbt_plugin.apps.restoring import FollowThisConfig, Resumed
from mixbt_plugin.apps.results import Results
from mixbt_plugin.apps.seeding import SeedEachBatch
from mixbt_plugin.apps.slurm import Requeue, slurm_job_id
from mixbt_plugin.apps.validation import ValidationAccuracies
from mixbt_plugin.apps.watching import Watch
from mixbt_plugin.data import INSIDE, SOURCES, number_of_classes
from mixbt_plugin.host import HOST, BaseMethod, add_dataset
from mixbt_plugin.keys import Numerics
from mixbt_plugin.registry import register
from mixbt_plugin.settings import ConfigError, plain


def prepare(cfg: DictConfig, check: Callable[[DictConfig], None]) -> None:
    """Registers the methods, checks the config, and gets it and the host's parser ready.

    Args:
        cfg: composed; changed in place.
        check: of the command's keys.

    Raises:
        ValueError: a key is missing or has a value that cannot be used here.
    """
    OmegaConf.set_struct(cfg, False)
    register()
    check(cfg)
    check_name(cfg)
    print_config(cfg)
    add_dataset(cfg.data.dataset, number_of_classes(cfg))
    if cfg.data.dataset in SOURCES:
        # The parsers want paths, and take one for validation as a sign that there are labels.
        cfg.data.train_path = cfg.data.val_path = INSIDE
    cfg.devices = device_ids(cfg.devices, on_gpu(cfg))
    if cfg.sync_batchnorm and not on_gpu(cfg):
        say("devices", "sync_batchnorm needs GPUs and is switched off")
        cfg.sync_batchnorm = False


@rank_zero_only
def print_config(cfg: DictConfig) -> None:
    """Prints the whole config, with the defaults of what it does not say."""
    print(OmegaConf.to_yaml(cfg, resolve=True))


def set_up(model: Any, cfg: DictConfig) -> Any:
    """The model as the config's section ``performance`` wants it.

    Args:
        model: a method, or a linear evaluation.
        cfg: parsed. ``performance.disable_channel_last``: leave the memory layout as it is;
            ``performance.compile``: compile backbone and projector with ``torch.compile`` when
            they are first called. Names and values of the weights stay as they are, so that
            checkpoints go both ways.

    Returns:
        The model.
    """
    if not cfg.performance.disable_channel_last:
        model = model.to(memory_format=torch.channels_last)
    if cfg.performance.get("compile", False):
        for name in ("backbone", "projector"):
            if hasattr(model, name):
                getattr(model, name).compile()
    return model


def on_gpu(cfg: DictConfig) -> bool:
    """Whether the config's ``accelerator`` means CUDA GPUs on this machine.

    Raises:
        ValueError: it means GPUs where there are none.
    """
    accelerator = cfg.get("accelerator") or "auto"
    there = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not there:
        raise ConfigError(
            f"accelerator={accelerator!r}: there is no CUDA GPU here; expected 'cpu' or 'auto'."
        )
    return there and accelerator != "cpu"


def device_of(cfg: DictConfig) -> torch.device:
    """Where the commands that do not train run a network: the first GPU, or the CPU."""
    return torch.device("cuda" if on_gpu(cfg) else "cpu")


def device_ids(devices: Any, gpu: bool) -> list[int]:
    """The devices that a config's ``devices`` means, as a list, as solo-learn counts them.

    Args:
        devices: a number, also as text; a list of ids, also as text ("0,1"); "auto" or -1 for
            all GPUs, or one process on the CPU.
        gpu: whether they are GPUs.

    Returns:
        Ids; of processes on the CPU, 0 to n - 1.

    Raises:
        ValueError: anything else.
    """
    if devices in ("auto", "-1", -1, None):
        return list(range(torch.cuda.device_count() if gpu else 1))
    try:
        if isinstance(devices, str):
            devices = [int(part) for part in devices.split(",")] if "," in devices else int(devices)
        ids = list(range(devices)) if isinstance(devices, int) else [int(i) for i in devices]
    except (TypeError, ValueError):
        ids = []
    if not ids or len(set(ids)) < len(ids) or min(ids) < 0:
        raise ConfigError(
            f"devices={devices!r}: expected a positive number, a list of different ids such as "
            "[0, 1], or 'auto'."
        )
    return ids


def require_known(key: str, value: str, known: Any) -> None:
    """Raises ValueError, with the nearest known name, unless ``value`` is known."""
    if value not in known:
        close = difflib.get_close_matches(str(value), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}."
        raise ConfigError(f"{key}={value!r} is not known: {hint}")


def require_backbone(cfg: DictConfig) -> None:
    """Raises ValueError unless there is such a backbone, and it takes ``backbone.kwargs``."""
    require_known("backbone.name", cfg.backbone.name, BaseMethod._BACKBONES)
    kwargs = plain(cfg.backbone.get("kwargs"))
    if kwargs:
        try:
            with torch.device("meta"):
                BaseMethod._BACKBONES[cfg.backbone.name](method=cfg.get("method"), **kwargs)
        except Exception as error:
            raise ConfigError(
                f"backbone.kwargs={kwargs}: {cfg.backbone.name} does not take them ({error})."
            ) from error


def build_trainer(
    cfg: DictConfig,
    results: Results,
    resumed: Resumed | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """A Lightning trainer, which `open_folder` gives a folder to log and save in.

    Args:
        cfg: parsed; every key that is an argument of Lightning's ``Trainer`` is passed on.
        results: keeps the accuracies.
        resumed: the checkpoint that the run goes on from.
        callbacks: further ones, called before the `Checkpointer`.

    Returns:
        The trainer.
    """
    values: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    accepted = inspect.signature(Trainer.__init__).parameters
    kwargs = {key: value for key, value in values.items() if key in accepted}
    # Where Lightning looks for what other programs have left for SLURM to go on from.
    kwargs.setdefault("default_root_dir", cfg.checkpoint.dir)
    kwargs.update(
        # With fast_dev_run Lightning takes one that writes nothing.
        logger=bool(cfg.fast_dev_run),
        callbacks=_callbacks(cfg, resumed, [results, *callbacks]),
        enable_checkpointing=False,
        # The loaders of mixbt_plugin.apps.loaders know the processes themselves.
        use_distributed_sampler=False,
        strategy=cfg.strategy or "auto",
        devices=values["devices"] if on_gpu(cfg) else len(values["devices"]),
    )
    return Trainer(**kwargs)


def _callbacks(
    cfg: DictConfig, resumed: Resumed | None, further: Sequence[Callback]
) -> list[Callback]:
    callbacks: list[Callback] = [
        LearningRateMonitor(logging_interval="step"),
        SeedEachBatch(cfg.seed),
        NumericalGuard(Numerics(**plain(cfg.numerics)), cfg.log_every_n_steps),
        ValidationAccuracies(),
        *further,
    ]
    if resumed is not None:
        callbacks.append(FollowThisConfig(resumed))
    if cfg.data.unreadable == "skip":
        callbacks.append(LogReplacedImages())
    if OmegaConf.select(cfg, "diagnostics.enabled"):
        callbacks.append(Watch(cfg))
    checkpointer = None
    if cfg.checkpoint.enabled and not cfg.fast_dev_run:
        checkpointer = Checkpointer(cfg)
        callbacks.append(checkpointer)
    if slurm_job_id() is not None:
        callbacks.append(Requeue(checkpointer))
    return callbacks


def open_folder(
    trainer: Trainer, cfg: DictConfig, kind: str, resumed: Resumed | None
) -> Path | None:
    """Makes ``<checkpoint.dir>/<kind>/version_<n>/``, which no other run has, to log and save in.

    Args:
        trainer: gets the loggers.
        cfg: parsed; gets ``wandb.id``, where W&B is enabled, and ``slurm_job_id``.
        kind: the method's name, or ``linear``.
        resumed: the checkpoint that the run goes on from; its run of W&B is continued.

    Returns:
        The folder, on the first process; None elsewhere, and with ``fast_dev_run``.
    """
    if cfg.fast_dev_run:
        return None
    version = _reserve(Path(cfg.checkpoint.dir) / kind) if trainer.is_global_zero else None
    csv = CSVLogger(save_dir=cfg.checkpoint.dir, name=kind, version=version)
    loggers: list[Logger] = [csv]
    if cfg.tensorboard.enabled:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(cfg.checkpoint.dir, name=kind, version=version))
    if cfg.wandb.enabled and trainer.is_global_zero:
        loggers.append(_wandb_logger(cfg, csv.log_dir, resumed))
    if slurm_job_id() is not None:
        cfg.slurm_job_id = slurm_job_id()
    trainer.loggers = loggers
    if not trainer.is_global_zero:
        return None
    if cfg.profiler is not None:
        # Otherwise Lightning logs its report, and Hydra has switched the loggers off.
        profiler: Any = trainer.profiler  # type: ignore[attr-defined]
        profiler.dirpath, profiler.filename = csv.log_dir, "profile"
    return Path(csv.log_dir)


def _reserve(folder: Path) -> int:
    """Makes the next ``version_<n>`` in a folder: only one process succeeds in making it."""
    folder.mkdir(parents=True, exist_ok=True)
    taken = [int(name) for path in folder.glob("version_*") if (name := path.name[8:]).isdigit()]
    version = max(taken, default=-1) + 1
    while True:
        try:
            (folder / f"version_{version}").mkdir()
            return version
        except FileExistsError:
            version += 1


def _wandb_logger(cfg: DictConfig, folder: str, resumed: Resumed | None) -> Logger:
    """A logger of the run ``wandb.id``; else of the resumed checkpoint's, or a new one's."""
    from lightning.pytorch.loggers import WandbLogger

    given = cfg.wandb.id or (resumed.wandb_id if resumed else None)
    cfg.wandb.id = given or uuid4().hex[:8]
    say("wandb", f"{'continues' if given else 'starts'} run {cfg.wandb.id}")
    return WandbLogger(
        name=cfg.name,
        project=cfg.wandb.project,
        entity=cfg.wandb.entity,
        offline=cfg.wandb.offline,
        save_dir=folder,
        id=cfg.wandb.id,
        config=OmegaConf.to_container(cfg, resolve=True),
    )


def announce(cfg: DictConfig, model: Any, folder: Path | None) -> None:
    """Prints what is about to be trained, with the learning rate in effect."""
    say("host", HOST)
    say("backbone", f"{cfg.backbone.name}, {cfg.optimizer.name}, lr {model.lr:g} in effect")
    say("folder", folder or "none: fast_dev_run writes nothing")
