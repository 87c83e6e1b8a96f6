"""What the official codes' optimisers and schedules do and the host has no key for."""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

BARLOW_COSINE = "barlow_cosine"


def barlow_cosine(
    step: float,
    *,
    steps_per_epoch: float,
    max_epochs: int,
    warmup_epochs: float = 10.0,
    final_lr_ratio: float = 1e-3,
    first_epoch: float = 0.0,
) -> float:
    """Factor of every learning rate in Barlow Twins' schedule (barlowtwins/main.py:155-168).

    A linear warm-up from 0, and a half cosine down to ``final_lr_ratio`` of each group's rate; the
    host's ``warmup_cosine`` starts and ends at the same rate in all groups.

    Args:
        step: steps done.
        steps_per_epoch: of the optimiser.
        max_epochs: length of the training.
        warmup_epochs: length of the warm-up.
        final_lr_ratio: factor at the end.
        first_epoch: the epoch that the schedule starts in: 1 in mix-bt/main.py:47,240, whose
            warm-up is therefore an epoch shorter, and whose last epoch lies behind the cosine.
    """
    done = step + first_epoch * steps_per_epoch
    warmup = warmup_epochs * steps_per_epoch
    if done < warmup:
        return done / warmup
    share = (done - warmup) / max(1.0, max_epochs * steps_per_epoch - warmup)
    cosine = (1 + math.cos(math.pi * share)) / 2
    return cosine + (1 - cosine) * final_lr_ratio


def schedule(optimizer: Optimizer, cfg: DictConfig, total_steps: float) -> dict[str, Any]:
    """`barlow_cosine` as a config's ``scheduler`` says, in Lightning's terms.

    Args:
        optimizer: whose rates are scheduled.
        cfg: with ``max_epochs`` and ``scheduler``.
        total_steps: of the whole training.
    """
    keys = ("warmup_epochs", "final_lr_ratio", "first_epoch")
    given = {key: cfg.scheduler[key] for key in keys if cfg.scheduler.get(key) is not None}
    per_epoch = total_steps / cfg.max_epochs

    def factor(step: int) -> float:
        return barlow_cosine(step, steps_per_epoch=per_epoch, max_epochs=cfg.max_epochs, **given)

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step", "frequency": 1}


def with_bias_lr(groups: list[dict[str, Any]], cfg: DictConfig, lr: float) -> list[dict[str, Any]]:
    """Parameter groups whose biases and batch-norm parameters have a learning rate of their own.

    As in barlowtwins/main.py:92-99. Groups that have their own rate stay as they are.

    Args:
        groups: of the method.
        cfg: ``optimizer.bias_lr_ratio`` says how much of ``lr`` it is; without it all stays.
        lr: of the weights, in effect.
    """
    ratio = OmegaConf.select(cfg, "optimizer.bias_lr_ratio")
    if ratio is None:
        return groups
    split = []
    for group in groups:
        params = list(group["params"])
        if "lr" in group:
            split.append({**group, "params": params})
            continue
        name = group["name"]
        weights = [p for p in params if p.dim() != 1]
        biases = [p for p in params if p.dim() == 1]
        split.append({**group, "params": weights})
        split.append({**group, "name": f"{name}_bias", "params": biases, "lr": ratio * lr})
    return split
