"""Refusal of inputs that a loss cannot take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mixbt_plugin.functional import require_equal_rows


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}.")


def check_batches(batches: Mapping[str, Any]) -> None:
    """Refuses anything but floating-point tensors of one shape (N, D), N >= 2, D >= 1.

    Args:
        batches: the tensors under the names that the message shall use.

    Raises:
        TypeError: not a tensor, or not floating-point.
        ValueError: not two-dimensional, too few rows or columns, shapes or devices that differ;
            numbers of rows that differ between the processes.
    """
    first_name, first = next(iter(batches.items()))
    for name, z in batches.items():
        if not isinstance(z, Tensor):
            raise TypeError(f"{name}: expected a tensor of shape (N, D), got {type(z).__name__}.")
        if not z.is_floating_point():
            raise TypeError(f"{name}: expected floating-point embeddings, got {z.dtype}.")
        if z.dim() != 2:
            raise ValueError(f"{name}: expected shape (N, D), got {tuple(z.shape)}.")
        if z.size(0) < 2:
            raise ValueError(
                f"{name}: {z.size(0)} row(s); statistics over the batch need at least 2."
            )
        if z.size(1) < 1:
            raise ValueError(f"{name}: embeddings of dimension 0; expected at least 1.")
        if z.shape != first.shape:
            raise ValueError(
                f"{name} has shape {tuple(z.shape)} but {first_name} {tuple(first.shape)}: "
                "all must be equal."
            )
        if z.device != first.device:
            raise ValueError(f"{name} is on {z.device} but {first_name} on {first.device}.")
    require_equal_rows(first.size(0), first.device)


def check_views(views: Sequence[Tensor]) -> None:
    """`check_batches` for a sequence of at least two views, named ``views[0]`` and so on."""
    if isinstance(views, Tensor):
        raise TypeError("views: expected a sequence of tensors (N, D), got one tensor.")
    if len(views) < 2:
        raise ValueError(f"views: {len(views)} given; expected at least 2.")
    check_batches({f"views[{v}]": z for v, z in enumerate(views)})


def check_permutation(perm: Any, n: int) -> None:
    """Refuses anything but a tensor (N,) of int64 in [0, N).

    The range of a tensor on an accelerator is left to PyTorch's own check on the device: reading
    it here would make the host wait at each step.
    """
    if not isinstance(perm, Tensor) or perm.dtype != torch.int64:
        found = perm.dtype if isinstance(perm, Tensor) else type(perm).__name__
        raise TypeError(f"perm: expected a tensor of int64, got {found}.")
    if perm.shape != (n,):
        raise ValueError(f"perm: expected shape ({n},), got {tuple(perm.shape)}.")
    if perm.device.type != "cpu":
        return
    low, high = (int(index) for index in perm.aminmax())
    if low < 0 or high >= n:
        raise ValueError(f"perm: expected indices in [0, {n}), got [{low}, {high}].")


def check_mix(mix: float | Tensor, n: int) -> None:
    """Refuses a mixing coefficient that is neither a number nor a tensor () or (N,), in [0, 1].

    As in `check_permutation`, values on an accelerator are not read.
    """
    if isinstance(mix, Tensor):
        if mix.shape not in ((), (n,)):
            raise ValueError(f"mix: expected shape () or ({n},), got {tuple(mix.shape)}.")
        if mix.device.type != "cpu":
            return
        low, high = float(mix.min()), float(mix.max())
    else:
        low = high = float(mix)
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(f"mix: expected values in [0, 1], got {low if low < 0 else high}.")


class FiniteCheck:
    """Raises when a loss is NaN or infinite, without making the host wait for an accelerator.

    One NaN or infinity anywhere in a view reaches the loss through its column's mean, so the
    loss alone is looked at, and the inputs only once it is bad. On the CPU that is at once. On an
    accelerator the flag is copied to pinned memory behind the step's other work, and looked at
    in a later call, once its event says that it has arrived: the error comes a step or so late
    but no step waits for it.

    Attributes:
        enabled: false where something else watches the training.
    """

    def __init__(self) -> None:
        self.enabled = True
        self._pending: list[tuple[Tensor, torch.Event, str]] = []

    def __call__(self, function: str, loss: Tensor, batches: Mapping[str, Tensor]) -> None:
        """Checks ``loss``, and what earlier calls left to be checked.

        Args:
            function: name of the loss, for the message.
            loss: 0-dim.
            batches: the inputs (N, D), under the names for the message.

        Raises:
            FloatingPointError: the loss is not finite; names the inputs and the first entry.
        """
        if not self.enabled:
            return
        if loss.device.type == "cpu":
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"{function} is {loss.item()}: {_diagnosis(batches)}")
            return
        self._raise_for_arrived()
        flags = torch.stack([torch.isfinite(x.detach().sum()) for x in (loss, *batches.values())])
        arrived = torch.Event(device=loss.device)
        on_host = torch.empty(flags.shape, dtype=torch.bool, pin_memory=True)
        on_host.copy_(flags, non_blocking=True)
        arrived.record()
        self._pending.append((on_host, arrived, f"{function}|{'|'.join(batches)}"))

    def _raise_for_arrived(self) -> None:
        while self._pending and self._pending[0][1].query():
            flags, _, names = self._pending.pop(0)
            if flags.all():
                continue
            self._pending.clear()
            function, *inputs = names.split("|")
            bad = [name for name, fine in zip(inputs, flags[1:].tolist()) if not fine]
            raise FloatingPointError(
                f"{function} was not finite in an earlier step: NaN or infinity in "
                f"{', '.join(bad) or 'none of its inputs, so it overflowed'}."
            )


def _diagnosis(batches: Mapping[str, Tensor]) -> str:
    found = []
    for name, z in batches.items():
        bad = (~torch.isfinite(z)).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            found.append(
                f"{name} holds {len(bad)} NaN or infinite value(s), the first at [{row}, {column}]"
            )
    return "; ".join(found) or "its inputs are finite, so it overflowed or a variance is 0."


check_finite = FiniteCheck()
