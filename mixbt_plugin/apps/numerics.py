"""Watches a training for NaN, infinity and collapse.

What is looked at is the gradient and the loss: one NaN or infinity in an image, a feature or an
embedding reaches them, and processes that train together see the same gradient. Only once they are
bad is it asked where it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from mixbt_plugin.apps.checkpointer import Checkpointer
from mixbt_plugin.losses import check_finite

DEAD = 1e-4
"""A dimension is dead whose standard deviation over the batch is below this, relative to the root
mean square of all."""
NO_LABEL = -1
MOST_DEAD = {"features": 0.5, "embeddings": 0.1}
"""Shares of dead dimensions from which on they are warned of. A ReLU leaves some features dead."""


class NumericalGuard(Callback):
    """Stops a training whose loss or gradient is not finite, or skips the step; warns of collapse.

    On the CPU, and wherever steps are skipped, every step is looked at before the optimiser takes
    it. On an accelerator that would make each step wait, so that without skipping the first bad
    step is noted there, and read every ``log_every_n_steps`` and before a checkpoint is written.

    A step that is skipped changes no weight, no buffer (such as batch-norm's statistics) and no
    state of the optimiser; the schedule goes on. With an fp16 gradient scaler, which skips steps of
    its own, the loss alone is looked at.

    Args:
        cfg: parsed. ``numerics.on_nonfinite``: ``stop`` (default) or ``skip``;
            ``numerics.max_skipped``: steps in a row that may be skipped before the training stops
            nevertheless, 10 by default; ``numerics.warn_of_collapse``: true by default.

    Attributes:
        skipped: steps skipped so far, of a resumed run too; logged as ``skipped_steps``.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self.skips = OmegaConf.select(cfg, "numerics.on_nonfinite", default="stop") == "skip"
        self.max_skipped = OmegaConf.select(cfg, "numerics.max_skipped", default=10)
        self.warns = OmegaConf.select(cfg, "numerics.warn_of_collapse", default=True)
        self.every_n_steps = OmegaConf.select(cfg, "log_every_n_steps", default=50)
        self.skipped = 0
        self._in_a_row = 0
        self._outputs: dict[str, list[Tensor]] = {"features": [], "embeddings": []}
        self._listening: list[Any] = []
        self._views: list[Tensor] = []
        self._losses: list[Tensor] = []
        self._labelled = torch.tensor(True)
        self._before: dict[str, Tensor] = {}
        self._remembered = 0
        self._first_bad: Tensor | None = None
        self._warned_in: dict[str, int] = {}

    def state_dict(self) -> dict[str, int]:
        """What a resumed run goes on counting from."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Takes the count over."""
        self.skipped = state_dict["skipped"]

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Listens to backbone and projector; this class looks at the losses instead of them."""
        check_finite.enabled = False
        for name, kind in (("backbone", "features"), ("projector", "embeddings")):
            module = getattr(pl_module, name, None)
            if isinstance(module, nn.Module):
                self._listening.append(module.register_forward_hook(self._listener(kind)))

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Listens no longer, and leaves the losses to look at themselves."""
        check_finite.enabled = True
        while self._listening:
            self._listening.pop().remove()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """As `teardown`, which does not come then."""
        self.teardown(trainer, pl_module, "fit")

    def _listener(self, kind: str) -> Any:
        def listen(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if module.training:
                self._outputs[kind].append(output.detach())

        return listen

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Forgets the last step, and remembers what skipping this one would have to restore."""
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self._losses.clear()
            self._views.clear()
            for outputs in self._outputs.values():
                outputs.clear()
            if self.skips:
                self._before = {name: b.clone() for name, b in pl_module.named_buffers()}
                self._remembered = len(_remembered_by_knn(pl_module, "train_features"))
        self._views += [x for x in _tensors(batch) if x.is_floating_point()]
        *_, classes = _tensors(batch)
        self._labelled = (classes != NO_LABEL).any()

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        """Keeps the loss for `on_before_optimizer_step`.

        That of the online classifier is NaN, on either host, where no image of a batch has a class;
        no gradient comes from it.
        """
        self._losses.append(torch.where(self._labelled, loss.detach(), 0.0))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        """Looks at loss and gradient.

        Raises:
            FloatingPointError: they are not finite, and steps are not to be skipped, or too many
                were; names the step, where it began, and the statistics of the batch.
        """
        if self.warns and trainer.global_step % self.every_n_steps == 0:
            self._warn_of_collapse(trainer)
        finite = self._finite(trainer, pl_module)
        if self.skips:
            finite = trainer.strategy.reduce(finite.float(), reduce_op="sum") == trainer.world_size
        elif finite.device.type != "cpu":
            self._note(trainer, ~finite)
            return
        if finite:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        report = self._report(trainer, pl_module)
        if not self.skips:
            raise FloatingPointError(f"{report} numerics.on_nonfinite=skip would skip such steps.")
        if self._in_a_row > self.max_skipped:
            raise FloatingPointError(
                f"{report} numerics.max_skipped={self.max_skipped} steps in a row were skipped."
            )
        self._skip(pl_module)
        rank_zero_warn(f"{report} The step is skipped, {self.skipped} so far.")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Logs how many steps were skipped."""
        if self.skips:
            pl_module.log("skipped_steps", float(self.skipped), reduce_fx="max")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Reads what was noted on an accelerator, before a checkpoint is written."""
        self._raise_for_noted(trainer)

    def _finite(self, trainer: Trainer, pl_module: Any) -> Tensor:
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        norms = [] if scaled else [g.norm() for _, g in _gradients(pl_module)]
        return torch.stack([*(loss.float() for loss in self._losses), *norms]).isfinite().all()

    def _note(self, trainer: Trainer, bad: Tensor) -> None:
        step = torch.where(bad, trainer.global_step, -1)
        noted = self._first_bad
        self._first_bad = step if noted is None else torch.where(noted >= 0, noted, step)
        if trainer.global_step % self.every_n_steps == 0:
            self._raise_for_noted(trainer)

    def _raise_for_noted(self, trainer: Trainer) -> None:
        if self._first_bad is not None and self._first_bad >= 0:
            raise FloatingPointError(
                f"step {int(self._first_bad)}: the loss or the gradient was not finite. "
                f"{_last_checkpoint(trainer)} numerics.on_nonfinite=skip looks at each step, and "
                "names the values."
            )

    def _skip(self, pl_module: Any) -> None:
        self.skipped += 1
        pl_module.zero_grad(set_to_none=True)
        for name, buffer in pl_module.named_buffers():
            buffer.copy_(self._before[name])
        for state in ("train_features", "train_targets"):
            del _remembered_by_knn(pl_module, state)[self._remembered :]

    def _report(self, trainer: Trainer, pl_module: Any) -> str:
        named = {f"views[{v}]": x for v, x in enumerate(self._views)}
        for kind, outputs in self._outputs.items():
            named |= {f"{kind}[{v}]": x for v, x in enumerate(outputs)}
        terms = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train_") and name.endswith("_step") and not value.isfinite()
        }
        gradients = [name for name, g in _gradients(pl_module) if not g.isfinite().all()]
        first = next((name for name, x in named.items() if not x.isfinite().all()), None)
        first = first or next(iter(terms), None) or "the gradient"
        lines = [
            f"step {trainer.global_step} (epoch {trainer.current_epoch}): not finite, first seen "
            f"in {first}.",
            *(f"  {name} {_statistics(x)}" for name, x in named.items()),
            f"  terms of the loss: {terms or 'finite'}",
            f"  gradient: {f'not finite in {len(gradients)} parameters' if gradients else 'finite'}"
            f"{f', such as {gradients[0]}' if gradients else ''}",
            _last_checkpoint(trainer),
        ]
        return "\n".join(lines)

    def _warn_of_collapse(self, trainer: Trainer) -> None:
        for kind, outputs in self._outputs.items():
            if not outputs or self._warned_in.get(kind) == trainer.current_epoch:
                continue
            z = outputs[0].float().flatten(1)
            dead = int((z.std(dim=0) < DEAD * z.square().mean().sqrt()).sum())
            if dead < max(1, MOST_DEAD[kind] * z.size(1)):
                continue
            self._warned_in[kind] = trainer.current_epoch
            what = "all images have the same" if dead == z.size(1) else "dead dimensions in the"
            rank_zero_warn(
                f"step {trainer.global_step} (epoch {trainer.current_epoch}): collapse: {what} "
                f"{kind}; {dead} of {z.size(1)} dimensions are constant over the batch."
            )


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (list, tuple)):
        for part in batch:
            yield from _tensors(part)


def _gradients(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, p.grad) for name, p in module.named_parameters() if p.grad is not None]


def _remembered_by_knn(pl_module: Any, state: str) -> list[Tensor]:
    remembered: list[Tensor] = getattr(getattr(pl_module, "knn", None), state, [])
    return remembered


def _statistics(x: Tensor) -> str:
    fine = x.isfinite()
    found = f"{tuple(x.shape)}: {int((~fine).sum())} of {x.numel()} values NaN or infinite"
    if not fine.any():
        return found
    rest = x[fine].float()
    return (
        f"{found}, the others from {rest.min():.3g} to {rest.max():.3g}, mean {rest.mean():.3g}, "
        f"standard deviation {rest.std(correction=0):.3g}"
    )


def _last_checkpoint(trainer: Trainer) -> str:
    saved: list[Path] = [
        callback.last
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, Checkpointer) and callback.last
    ]
    return f"The last good checkpoint is {saved[0]}." if saved else "No checkpoint was written yet."
