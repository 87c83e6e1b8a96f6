"""Optimisers and learning-rate schedules by solo-learn's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class LARS(Optimizer):
    """SGD with momentum and layer-wise rate scaling (arXiv 1708.03888), in solo-learn's variant.

    timm's ``Lars`` excludes parameters by their group's weight decay; solo-learn excludes each
    one-dimensional parameter, whatever its group, and its checkpoints hold the groups undivided.

    Args:
        params: parameters or groups.
        lr: learning rate.
        momentum: of the update.
        weight_decay: L2 penalty, not applied to excluded parameters.
        eta: trust coefficient.
        eps: added to the norm that divides.
        clip_lr: keep the scaled rate from exceeding ``lr``.
        exclude_bias_n_norm: update one-dimensional parameters by plain SGD.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        eta: float = 1e-3,
        eps: float = 1e-8,
        clip_lr: bool = False,
        exclude_bias_n_norm: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "eta": eta,
            "eps": eps,
            "clip_lr": clip_lr,
            "exclude_bias_n_norm": exclude_bias_n_norm,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates the parameters once; ``closure`` evaluates the model again, as in torch."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._scaled_gradient(parameter, group)
                state = self.state[parameter]
                if group["momentum"]:
                    if "momentum_buffer" in state:
                        state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                    else:
                        state["momentum_buffer"] = update.clone()
                    update = state["momentum_buffer"]
                parameter.add_(update, alpha=-group["lr"])
        return loss

    @staticmethod
    def _scaled_gradient(parameter: Tensor, group: dict[str, Any]) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        if parameter.dim() == 1 and group["exclude_bias_n_norm"]:
            return gradient
        norm, gradient_norm = parameter.norm(), gradient.norm()
        ratio = group["eta"] * norm / (gradient_norm + norm * group["weight_decay"] + group["eps"])
        if group["clip_lr"]:
            ratio = (ratio / group["lr"]).clamp(max=1)
        # Chosen on the device: a branch on the norms would make the host wait for each of them.
        scaled = (norm > 0) & (gradient_norm > 0)
        decay = group["weight_decay"] * scaled.to(norm.dtype)
        return torch.addcmul(gradient, parameter, decay).mul_(torch.where(scaled, ratio, 1.0))


class LinearWarmupCosineAnnealingLR(LRScheduler):
    """Linear warm-up to each group's rate, then a half cosine down to ``eta_min``.

    The closed form of solo-learn's schedule (solo/utils/lr_scheduler.py). The warm-up starts from
    the same rate in all groups and reaches the full rate one step before its end.

    Args:
        optimizer: whose groups' rates are scheduled.
        warmup_epochs: length of the warm-up, in calls of ``step``.
        max_epochs: length of the whole schedule, in calls of ``step``.
        warmup_start_lr: rate at the first step.
        eta_min: rate at the last.
        last_epoch: index of the last step done.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_epochs: float,
        max_epochs: float,
        warmup_start_lr: float = 0.0,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.warmup_epochs = warmup_epochs
        self.max_epochs = max_epochs
        self.warmup_start_lr = warmup_start_lr
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Rates of the groups at the current step."""
        return [self._lr(float(base_lr)) for base_lr in self.base_lrs]

    def _lr(self, base_lr: float) -> float:
        step = self.last_epoch
        if step == 0:
            return self.warmup_start_lr
        if step < self.warmup_epochs:
            share = step / (self.warmup_epochs - 1)
            return self.warmup_start_lr + share * (base_lr - self.warmup_start_lr)
        share = (step - self.warmup_epochs) / max(1, self.max_epochs - self.warmup_epochs)
        return self.eta_min + (base_lr - self.eta_min) * (1 + math.cos(math.pi * share)) / 2


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": torch.optim.SGD,
    "lars": LARS,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def without_decay_on_bias_and_norm(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Splits each group: its one-dimensional parameters get a group without weight decay."""
    split = []
    for group in groups:
        params = list(group["params"])
        decayed = [p for p in params if p.dim() > 1]
        others = [p for p in params if p.dim() <= 1]
        if decayed:
            split.append({**group, "params": decayed})
        if others:
            name = {"name": f"{group['name']}_no_decay"} if "name" in group else {}
            split.append({**group, **name, "params": others, "weight_decay": 0})
    return split
