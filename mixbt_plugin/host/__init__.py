"""The one door to solo-learn.

Everything that the plugin needs of its host goes through the names below. They are solo-learn's
own where a usable checkout is importable, and those of the embedded stand-in where it is not; see
`mixbt_plugin.host.detect`. The host is imported when the first of them is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mixbt_plugin.host.detect import Host, HostError, detect

if TYPE_CHECKING:
    from mixbt_plugin.host.embedded import (
        METHODS,
        BaseMethod,
        FullTransformPipeline,
        LinearModel,
        NCropAugmentation,
        add_dataset,
        build_backbone,
        build_transform_pipeline,
        dali_loaders,
        imagenet100_classes,
        parse_linear_cfg,
        parse_pretrain_cfg,
    )

    HOST: Host

__all__ = [
    "HOST",
    "METHODS",
    "BaseMethod",
    "FullTransformPipeline",
    "Host",
    "HostError",
    "LinearModel",
    "NCropAugmentation",
    "add_dataset",
    "build_backbone",
    "build_transform_pipeline",
    "dali_loaders",
    "detect",
    "imagenet100_classes",
    "parse_linear_cfg",
    "parse_pretrain_cfg",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    host = globals().setdefault("HOST", detect())
    if name == "HOST":
        return host
    module = "embedded" if host.is_embedded else "solo_learn"
    return getattr(import_module(f"{__name__}.{module}"), name)
