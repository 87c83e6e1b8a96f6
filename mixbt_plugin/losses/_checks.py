"""Refusal of inputs that a loss cannot take, and of a loss that is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import Tensor

from mixbt_plugin.functional import Ddp, GlobalBatch, Impl, Processes, widened


def prepare(
    embeddings: Mapping[str, Any],
    *,
    impl: Impl,
    ddp: Ddp,
    group: Any,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> tuple[list[Tensor], GlobalBatch]:
    """Checks what a loss is given, on all processes together.

    Args:
        embeddings: the tensors under the names that a message shall use.
        impl: as the losses take it.
        ddp: as the losses take it.
        group: as the losses take it.
        before: checks more than the embeddings, before them.
        after: likewise, once the embeddings are right.

    Returns:
        The embeddings, at least in float32, and the batch that they are of.

    Raises:
        TypeError, ValueError: what this or another process was given is not right.
    """
    check_choice("impl", impl, Impl)
    check_choice("ddp", ddp, Ddp)
    processes = Processes.of(group, ddp)
    with refusing_together(processes, next(iter(embeddings.values()), None)):
        before()
        check_embeddings(embeddings)
        after()
    views = [widened(z) for z in embeddings.values()]
    rows, dim = views[0].shape
    return views, GlobalBatch(rows * processes.size, dim, processes, ddp, impl)


@contextmanager
def refusing_together(processes: Processes, z: Any) -> Iterator[None]:
    """What one process refuses inside, all refuse; as they do batches of different shapes.

    On an accelerator, where comparing makes a step wait, only the first call of a group does.

    Args:
        processes: that compare.
        z: the first of the embeddings, whose shape is compared.

    Raises:
        TypeError, ValueError: what was raised inside.
        ValueError: something was raised in another process, or the shapes differ.
    """
    problem: Exception | None = None
    try:
        yield
    except (TypeError, ValueError) as error:
        problem = error
    if processes.size > 1 and _compares(processes.group or dist.group.WORLD, z):
        found: list[Any] = [None] * processes.size
        mine = str(problem) if problem else tuple(z.shape)
        dist.all_gather_object(found, mine, group=processes.group)
        problem = problem or _disagreement(found)
    if problem is not None:
        raise problem


_compared: WeakSet[Any] = WeakSet()
"""Groups on an accelerator whose first call has been: a loss is a function, and has no memory."""


def _compares(group: Any, z: Any) -> bool:
    if not isinstance(z, Tensor) or z.device.type == "cpu":
        return True
    first = group not in _compared
    _compared.add(group)
    return first


def _disagreement(found: Sequence[Any]) -> ValueError | None:
    for rank, one in enumerate(found):
        if isinstance(one, str):
            return ValueError(f"process {rank} of the group: {one}")
    rows, dimensions = zip(*found)
    if len(set(rows)) > 1:
        return ValueError(
            f"the processes hold {', '.join(map(str, rows))} rows: expected as many on each. Drop "
            "the incomplete last batch (drop_last=True), or fill it up."
        )
    if len(set(dimensions)) > 1:
        held = ", ".join(map(str, dimensions))
        return ValueError(f"the processes hold embeddings of {held} dimensions: expected one.")
    return None


def check_choice(name: str, value: str, literal: Any) -> None:
    """Raises ValueError unless ``value`` is one of a ``Literal``."""
    choices = get_args(literal)
    if value not in choices:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}.")


def check_embeddings(embeddings: Mapping[str, Any]) -> None:
    """Refuses anything but floating-point tensors of one shape (N, D), N >= 2, D >= 1.

    Raises:
        TypeError: not a tensor, not floating-point, or float32 beside float64.
        ValueError: not two-dimensional, too few rows or columns, shapes or devices that differ.
    """
    first_name, first = next(iter(embeddings.items()))
    for name, z in embeddings.items():
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
        if (z.dtype == torch.float64) != (first.dtype == torch.float64):
            raise TypeError(
                f"{name} is {z.dtype} but {first_name} {first.dtype}: expected one of them; "
                "float64 is computed in float64, everything else in float32."
            )


def named_views(views: Sequence[Tensor]) -> dict[str, Tensor]:
    """The views as ``views[0]`` and so on."""
    return {f"views[{v}]": z for v, z in enumerate(views)}


def check_views(views: Sequence[Tensor]) -> None:
    """Refuses anything but two or more."""
    if isinstance(views, Tensor):
        raise TypeError("views: expected a sequence of tensors (N, D), got one tensor.")
    if len(views) < 2:
        raise ValueError(f"views: {len(views)} given; expected at least 2.")


def check_mixing(perm: Any, mix: float | Tensor, z_m: Tensor) -> None:
    """`check_permutation` and `check_mix` for the embeddings of the mixed images."""
    check_permutation(perm, len(z_m))
    check_mix(mix, len(z_m))


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
    if not _can_be_read(perm):
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
        if not _can_be_read(mix):
            return
        low, high = float(mix.min()), float(mix.max())
    else:
        low = high = float(mix)
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(f"mix: expected values in [0, 1], got {low if low < 0 else high}.")


def refuse_not_finite(function: str, loss: Tensor, embeddings: Mapping[str, Tensor]) -> None:
    """Raises where a loss is NaN or infinite, on the CPU alone: an accelerator would have to wait.

    One NaN or infinity anywhere in a view reaches the loss through its column's mean, so the
    loss alone is looked at, and the embeddings only once it is bad.

    Args:
        function: name of the loss, for the message.
        loss: 0-dim.
        embeddings: the inputs (N, D), under the names for the message.

    Raises:
        FloatingPointError: the loss is not finite; names the inputs and the first bad entry.
    """
    if _can_be_read(loss) and not math.isfinite(loss.item()):
        raise FloatingPointError(f"{function} is {loss.item()}: {_diagnosis(embeddings)}")


def _can_be_read(x: Tensor) -> bool:
    """Whether its values are there at once: not on an accelerator, being traced, or pretended."""
    tracing = torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter)
    return x.device.type == "cpu" and not tracing


def _diagnosis(embeddings: Mapping[str, Tensor]) -> str:
    found = []
    for name, z in embeddings.items():
        bad = (~torch.isfinite(z)).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            found.append(
                f"{name} holds {len(bad)} NaN or infinite value(s), the first at [{row}, {column}]"
            )
    return "; ".join(found) or "its inputs are finite, so it overflowed."
