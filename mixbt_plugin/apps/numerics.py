"""Watches a training for NaN, infinity and collapse.

What is looked at is the gradient and the loss: one NaN or infinity in an image, a feature or an
embedding reaches them, and processes that train together see the same gradient. Only once they are
bad is it asked where it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from mixbt_plugin.apps.checkpointer import NotFiniteError, last_checkpoint
from mixbt_plugin.diagnostics import dead_dimensions
from mixbt_plugin.evaluation.accuracy import NO_LABEL
from mixbt_plugin.keys import Numerics
from mixbt_plugin.losses import dead_columns

MOST_NAMED = 10
MOST_DEAD = {"features": 0.5, "embeddings": 0.1}
"""Shares of dead dimensions from which on they are warned of. A ReLU leaves some features dead."""


class NumericalGuard(Callback):
    """Stops a training whose loss or gradient is not finite, or skips the step; warns of collapse.

    On the CPU, and wherever steps are skipped, every step is looked at before the optimiser takes
    it. On an accelerator that would make each step wait, so that without skipping the first bad
    step is noted there, and read every ``log_every_n_steps``, before a checkpoint is written and
    when the training ends.

    A step that is skipped changes no weight, no buffer (such as batch-norm's statistics) and no
    state of the optimiser; the schedule goes on. An fp16 gradient scaler leaves out steps whose
    gradient is not finite, and halves its scale each time: a few are its search for a scale. More
    than ``numerics.max_skipped`` in a row, or a scale that falls below 1, are a training that no
    longer learns.

    Args:
        numerics: ``on_nonfinite``: ``stop`` or ``skip``; ``max_skipped``: steps in a row that may
            be skipped, here or by a gradient scaler, before the training stops nevertheless;
            ``warn_of_collapse``.
        every_n_steps: how often an accelerator's note is read, ``log_every_n_steps``.

    Attributes:
        skipped: steps skipped so far, of a resumed run too; logged as ``skipped_steps``.
    """

    def __init__(self, numerics: Numerics, every_n_steps: int) -> None:
        self.skips = numerics.on_nonfinite == "skip"
        self.max_skipped = numerics.max_skipped
        self.warns = numerics.warn_of_collapse
        self.every_n_steps = every_n_steps
        self.skipped = 0
        self._in_a_row: int | Tensor = 0
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
        pl_module.check_finite = False
        for name, kind in (("backbone", "features"), ("projector", "embeddings")):
            module = getattr(pl_module, name, None)
            if isinstance(module, nn.Module):
                self._listening.append(module.register_forward_hook(self._listener(kind)))

    def teardown(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Listens no longer, and leaves the losses to look at themselves."""
        pl_module.check_finite = True
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
            NotFiniteError: they are not finite, and steps are not to be skipped, or too many
                were; names the step, where it began, and the statistics of the batch.
        """
        scaler = _scaler(trainer)
        loss, gradient = self._finite(pl_module)
        on_host = self.skips or loss.device.type == "cpu"
        if self.warns and (on_host or self._is_read_at(trainer)):
            self._warn_of_dead(trainer, pl_module)
        if self.warns and self._is_read_at(trainer):
            self._warn_of_collapse(trainer)
        if not on_host:
            if scaler is not None:
                self._in_a_row = torch.where(gradient, 0, self._in_a_row + 1)
                gradient = self._in_a_row <= self.max_skipped
            self._note(trainer, ~(loss & gradient))
            return
        if self.skips:
            here = torch.stack([loss, gradient]).float()
            loss, gradient = trainer.strategy.reduce(here, reduce_op="sum") == trainer.world_size
        if loss and gradient:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if scaler is not None and loss:
            if self._in_a_row > self.max_skipped or _falls_below_1(scaler):
                raise NotFiniteError(f"{self._report(trainer, pl_module)} {self._lost(scaler)}")
            return
        report = self._report(trainer, pl_module)
        if not self.skips:
            raise NotFiniteError(f"{report} numerics.on_nonfinite=skip would skip such steps.")
        if self._in_a_row > self.max_skipped:
            raise NotFiniteError(
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

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Reads what was noted since, however the training ended."""
        self._raise_for_noted(trainer)

    def _is_read_at(self, trainer: Trainer) -> bool:
        return trainer.global_step % self.every_n_steps == 0

    def _finite(self, pl_module: Any) -> tuple[Tensor, Tensor]:
        """Whether the loss and the gradient are finite, each of shape ()."""
        loss = torch.stack([loss.float() for loss in self._losses]).sum()
        # Least and largest entry: a sum of squares may overflow where no entry does.
        extremes = [end.float() for _, g in _gradients(pl_module) for end in g.aminmax()]
        gradient = torch.stack([torch.zeros_like(loss), *extremes])
        return loss.isfinite(), gradient.isfinite().all()

    def _note(self, trainer: Trainer, bad: Tensor) -> None:
        step = torch.where(bad, trainer.global_step, -1)
        noted = self._first_bad
        self._first_bad = step if noted is None else torch.where(noted >= 0, noted, step)
        if self._is_read_at(trainer):
            self._raise_for_noted(trainer)

    def _raise_for_noted(self, trainer: Trainer) -> None:
        if self._first_bad is None:
            return
        scaler, step = _scaler(trainer), int(self._first_bad)
        if step < 0 and (scaler is None or scaler.get_scale() >= 1):
            return
        raise NotFiniteError(
            f"step {step if step >= 0 else trainer.global_step}: the loss or the gradient was not "
            f"finite. {'' if scaler is None else f'{self._lost(scaler)} '}"
            f"{_last_checkpoint(trainer)} numerics.on_nonfinite=skip looks at each step, and "
            "names the values."
        )

    def _lost(self, scaler: Any) -> str:
        return (
            f"The gradient scaler left out the last {int(self._in_a_row)} steps "
            f"(numerics.max_skipped={self.max_skipped}), and its scale is {scaler.get_scale():g}."
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
            *(f"  {dead}" for dead in self._dead(pl_module)),
            _last_checkpoint(trainer),
        ]
        return "\n".join(lines)

    def _dead(self, pl_module: Any) -> list[str]:
        """Names dead dimensions where no eps lets them learn."""
        settings, batches = getattr(pl_module, "settings", None), self._outputs["embeddings"]
        if getattr(settings, "eps", None) != 0 or not batches:
            return []
        if getattr(settings, "normalize_output", False):
            batches = [F.normalize(z) for z in batches]
        if getattr(settings, "pooled", False):
            batches = [torch.cat(batches)]
        dead = torch.stack([dead_columns(z) for z in batches])
        found = dead.any(dim=0).nonzero().flatten().tolist()
        if not found:
            return []
        more = ", …" if len(found) > MOST_NAMED else ""
        return [
            f"{len(found)} of {dead.size(1)} dimensions of the embeddings are dead, constant over "
            f"the batch but for rounding: {', '.join(map(str, found[:MOST_NAMED]))}{more}. "
            "With method_kwargs.eps=0 they get no gradient; with a larger one they do."
        ]

    def _warn_of_dead(self, trainer: Trainer, pl_module: Any) -> None:
        if self._warned_in.get("dead") == trainer.current_epoch:
            return
        for dead in self._dead(pl_module):
            self._warned_in["dead"] = trainer.current_epoch
            rank_zero_warn(f"step {trainer.global_step} (epoch {trainer.current_epoch}): {dead}")

    def _warn_of_collapse(self, trainer: Trainer) -> None:
        for kind, outputs in self._outputs.items():
            if not outputs or self._warned_in.get(kind) == trainer.current_epoch:
                continue
            z = outputs[0].flatten(1)
            dead = int(dead_dimensions(z))
            if dead < max(1, MOST_DEAD[kind] * z.size(1)):
                continue
            self._warned_in[kind] = trainer.current_epoch
            what = "all images have the same" if dead == z.size(1) else "dead dimensions in the"
            rank_zero_warn(
                f"step {trainer.global_step} (epoch {trainer.current_epoch}): collapse: {what} "
                f"{kind}; {dead} of {z.size(1)} dimensions are constant over the batch."
            )


def _scaler(trainer: Trainer) -> Any:
    """The gradient scaler of a training in fp16, None of any other."""
    return getattr(trainer.precision_plugin, "scaler", None)


def _falls_below_1(scaler: Any) -> bool:
    """Whether a scaler's scale will be below 1 once it has left out this step."""
    below: bool = scaler.get_scale() * scaler.get_backoff_factor() < 1
    return below


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
    saved = last_checkpoint(trainer)
    return f"The last good checkpoint is {saved}." if saved else "No checkpoint was written yet."
