"""A pretended CUDA device, for what can be seen of a GPU's path where there is none.

PyTorch's fake tensors have a device, a shape and a type but no values: whatever reads a value
raises, and so does what is given tensors of several devices. What else goes wrong, `Watch` sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
COPIES = (aten._to_copy.default, aten.copy_.default)
PRODUCTS = {
    *(aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot, aten.vdot),
    *(aten._addmm_activation, aten.convolution, aten.convolution_backward),
}


class HostWaitsError(AssertionError):
    """A step would make the host wait."""


class MixedTypesError(AssertionError):
    """A product of tensors of several types, which a GPU refuses."""


class Watch(TorchDispatchMode):
    """Raises where a copy between host and device is waited for, and where types do not fit.

    Attributes:
        sent: how many tensors went to the device.
        products: types in which matrices were multiplied, and images convolved.
        tf32: whether some of them could have been rounded to TF32.
        computed: floating-point types of all results but casts'.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pinned: list[Tensor] = []
        self.sent = 0
        self.products: set[torch.dtype] = set()
        self.tf32 = False
        self.computed: set[torch.dtype] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._pin_memory.default:  # fake tensors cannot be pinned
            pinned = args[0].clone()
            self.pinned.append(pinned)
            return pinned
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if func.overloadpacket in PRODUCTS:
            multiplied = {x.dtype for x in tensors}
            if len(multiplied) > 1:
                raise MixedTypesError(f"{func} of {multiplied}")
            self.products |= multiplied
            self.tf32 = self.tf32 or _tf32_is_allowed()
        out = func(*args, **kwargs)
        if func in COPIES:
            source = args[-1 if func is aten.copy_.default else 0]
            if source.device != out.device:
                if not kwargs.get("non_blocking") or not any(source is x for x in self.pinned):
                    raise HostWaitsError(f"{func} from {source.device} to {out.device}")
                self.sent += 1
        elif any(x.is_cuda for x in tensors) and any(x.is_cpu and x.dim() for x in tensors):
            raise HostWaitsError(f"{func} of tensors on host and device")
        else:
            results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
            self.computed |= {x.dtype for x in results if x.is_floating_point()}
        return out


def _tf32_is_allowed() -> bool:
    settings = torch.backends.cuda.matmul
    if hasattr(settings, "fp32_precision"):
        return settings.fp32_precision == "tf32"
    return settings.allow_tf32


@pytest.fixture
def pretended_cuda() -> Iterator[None]:
    """New tensors are fake within the test."""
    with FakeTensorMode():
        try:
            torch.nn.Linear(1, 1, device="cuda:0")
        except RuntimeError:
            pytest.skip("this PyTorch asks for a CUDA driver even for fake tensors")
        yield


@contextmanager
def autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """``torch.autocast("cuda", dtype)``, which switches itself off where there is no CUDA."""
    if dtype is None:
        yield
        return
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


def gradients(loss: Tensor) -> dict[Tensor, Tensor]:
    """The gradient of each leaf, by the backward pass that PyTorch has recorded.

    PyTorch's engine asks the tensors' device for its driver before it calls the first node; here
    the nodes are called one by one, and their gradients summed and cast as the engine does.
    """
    found: dict[Tensor, Tensor] = {}
    received: dict[Any, list[Tensor | None]] = {loss.grad_fn: [torch.ones_like(loss)]}
    with torch.no_grad():
        for node in _in_order(loss.grad_fn):
            given = [_like(*each) for each in zip(received.pop(node), node._input_metadata)]
            if hasattr(node, "variable"):
                assert given[0] is not None
                found[node.variable] = given[0]
                continue
            grads = node.apply(*given) if hasattr(node, "apply") else node(*given)
            grads = grads if isinstance(grads, tuple) else (grads,)
            for grad, (following, position) in zip(grads, node.next_functions):
                if following is not None:
                    slots = received.setdefault(
                        following, [None] * max(1, len(following._input_metadata))
                    )
                    slots[position] = _sum(slots[position], grad)
    return found


def _in_order(root: Any) -> list[Any]:
    """Each node after all that send it a gradient."""
    ordered: list[Any] = []
    seen = set()
    stack = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            ordered.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(n, False) for n, _ in node.next_functions if n is not None]
    return ordered[::-1]


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    return b if a is None else a if b is None else a + b


def _like(grad: Tensor | None, forward: Any) -> Tensor | None:
    """The gradient in the shape and type of what it is the gradient of."""
    if grad is None:
        return None
    assert grad.device == forward.device, f"gradient on {grad.device} for a tensor elsewhere"
    return grad.sum_to_size(forward.shape).to(forward.dtype)
