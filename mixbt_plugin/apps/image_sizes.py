"""Backbones that are built for images of one size, such as ViT and Swin, get that of the views.

Whether a backbone takes images of a size is not looked up but tried: one forward without data, on
PyTorch's meta device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from timm.layers.patch_embed import PatchEmbed
from torch import nn

from mixbt_plugin.apps.printing import say
from mixbt_plugin.data import image_size
from mixbt_plugin.host import build_backbone
from mixbt_plugin.settings import ConfigError

Size = tuple[int, int]


def fit_backbone_to_views(cfg: DictConfig) -> None:
    """Sets ``backbone.kwargs`` so that the backbone takes the views of all pipelines.

    A backbone that takes them as it is stays so. Others, which timm builds for 224 pixels, get the
    first pipeline's size as ``img_size``, and with views of several sizes ``dynamic_img_size``.
    What is given in ``backbone.kwargs`` stays. ``args.json`` keeps all of it for evaluation.

    Args:
        cfg: parsed, with ``augmentations``; changed in place.

    Raises:
        ConfigError: the backbone takes no images of these sizes; names the keys that it has for it.
    """
    sizes = list(dict.fromkeys(image_size(view.crop_size) for view in cfg.augmentations))
    given = _kwargs(cfg)
    problem = _problem(cfg, cfg.method, given, sizes)
    if problem is None:
        return
    height, width = sizes[0]
    fitting: dict[str, Any] = {"img_size": height if height == width else [height, width]}
    if len(sizes) > 1 or given.get("dynamic_img_pad"):  # which timm does for dynamic sizes alone
        fitting["dynamic_img_size"] = True
    kwargs = {**fitting, **given}
    problem_then = _problem(cfg, cfg.method, kwargs, sizes)
    if problem_then is None:
        cfg.backbone.kwargs = kwargs
        chosen = {key: value for key, value in kwargs.items() if key not in given}
        say("images", f"backbone.kwargs gets {chosen}, by the views of {_named(sizes)} pixels")
        return
    hint = (
        "backbone.kwargs.img_size is one size, with backbone.kwargs.dynamic_img_size=true others "
        "are taken too; backbone.kwargs.patch_size must divide each crop_size."
    )
    if "unexpected keyword argument 'img_size'" in problem_then:
        problem_then, hint = problem, "Expected another crop_size or another backbone."
    raise ConfigError(
        f"backbone.name={cfg.backbone.name!r} does not take views of {_named(sizes)} pixels: "
        f"{problem_then} {hint}"
    )


def require_image_size(cfg: DictConfig, method: str | None, crop_size: Any) -> None:
    """Refuses to evaluate a backbone on images that it does not take.

    Args:
        cfg: with ``backbone``, and ``data.dataset`` of pre-training.
        method: of pre-training.
        crop_size: of the images.

    Raises:
        ConfigError: names ``data.augmentations.crop_size`` and the keys of ``backbone.kwargs``.
    """
    sizes = [image_size(crop_size)]
    problem = _problem(cfg, method, _kwargs(cfg), sizes)
    if problem is not None:
        raise ConfigError(
            f"data.augmentations.crop_size: {cfg.backbone.name} with backbone.kwargs="
            f"{_kwargs(cfg)} does not take images of {_named(sizes)} pixels: {problem} Expected "
            "the size of pre-training; timm's ViT and Swin also take others with "
            "backbone.kwargs.dynamic_img_size=true."
        )


def _kwargs(cfg: DictConfig) -> dict[str, Any]:
    kwargs: Any = OmegaConf.to_container(cfg, resolve=True)
    return kwargs["backbone"].get("kwargs") or {}


def _problem(
    cfg: DictConfig, method: str | None, kwargs: Mapping[str, Any], sizes: Sequence[Size]
) -> str | None:
    """Why a backbone does not take images of these sizes; None where it does."""
    described = OmegaConf.create(
        {
            "backbone": {"name": cfg.backbone.name, "kwargs": dict(kwargs)},
            "data": {"dataset": cfg.data.dataset},
        }
    )
    try:
        with torch.device("meta"), torch.no_grad():
            backbone, _ = build_backbone(described, method)
            backbone.eval()
            for height, width in sizes:
                backbone(torch.empty(2, 3, height, width))
    except NotImplementedError:
        return None  # It reads values, and none are there: the training will tell.
    except Exception as error:
        return f"{str(error).rstrip('.') or type(error).__name__}."
    return _left_out(backbone, sizes)


def _left_out(backbone: nn.Module, sizes: Sequence[Size]) -> str | None:
    """What timm cuts off without a word where ``img_size`` is no multiple of the patches."""
    patches = getattr(backbone, "patch_embed", None)
    if not isinstance(patches, PatchEmbed) or patches.dynamic_img_pad:
        return None
    patch: Size = patches.patch_size
    for height, width in sizes:
        if height % patch[0] or width % patch[1]:
            return (
                f"its patches of {_named([patch])} leave some of {_named([(height, width)])} out."
            )
    return None


def _named(sizes: Sequence[Size]) -> str:
    return " and ".join(f"{height} x {width}" for height, width in sizes)
