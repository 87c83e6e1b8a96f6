"""Tensors from the host to a GPU, without making the host wait."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device | None) -> Tensor:
    """The tensor on a device; the host does not wait for a GPU to take it.

    Args:
        tensor: on the host, or on the device already.
        device: where it is wanted; None leaves it where it is.
    """
    if device is None or tensor.device == device:
        return tensor
    if device.type != "cuda":
        return tensor.to(device)
    # Only from pinned memory is a copy not waited for.
    return tensor.pin_memory().to(device, non_blocking=True)
