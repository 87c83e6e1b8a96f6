"""Precision in which the losses are computed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor):
        half = value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value
    if isinstance(value, (list, tuple)):
        return [_widen(item) for item in value]
    return value


def _device_type(values: tuple[Any, ...]) -> str:
    for value in values:
        if isinstance(value, Tensor):
            return value.device.type
        if isinstance(value, (list, tuple)) and value:
            return _device_type(tuple(value))
    return "cpu"


def full_precision(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Runs a function of embeddings in float32 (float64 stays float64), autocast switched off.

    The energy subtracts numbers that nearly cancel: under bf16 or fp16 autocast its gradient is
    wrong by about one percent. Within what `torch.compile` compiles the function runs as it
    is: it writes to memory that it keeps, and Dynamo would lose that.

    Args:
        function: takes tensors, or sequences of tensors, as positional arguments.

    Returns:
        The wrapped function. float16 and bfloat16 arguments are widened to float32.
    """

    @wraps(function)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(wrapper)(*args, **kwargs)
        device_type = _device_type(args)
        # Entering a context that changes nothing takes longer than several operations.
        if not torch.is_autocast_enabled(device_type):
            return function(*map(_widen, args), **kwargs)
        with torch.autocast(device_type, enabled=False):
            return function(*map(_widen, args), **kwargs)

    return wrapper
