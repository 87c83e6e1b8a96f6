"""Whose checkpoint a file is, and the backbone in it by the names that torchvision and timm use.

==================================================  =============  =================  ==========
checkpoint of                                       its weights    backbone's keys    numbered
==================================================  =============  =================  ==========
this plugin; solo-learn                             state_dict     backbone.          no
Barlow Twins; Mixed Barlow Twins on ImageNet        model          module.backbone.   no
fastssl                                             model          backbone.feats.    yes
Mixed Barlow Twins on small images; HSIC-SSL        the file       f.                 yes
a backbone: ``resnet50.pth``, torchvision, timm     the file       conv1., layer1., …  no
==================================================  =============  =================  ==========

Numbered means that a ResNet's children stand in a ``Sequential``: ``f.0`` is its first convolution,
``f.1`` the batch-norm, and where the first stage stands tells what lies between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from mixbt_plugin.checkpoints.stems import Stem
from mixbt_plugin.settings import ConfigError

RESNET_PARTS = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
COUNTERS = ("total_ops", "total_params")
"""Buffers that thop, which mix-bt counts operations with, leaves in a network."""


@dataclass(frozen=True)
class Layout:
    """How a code names what it saves.

    Attributes:
        name: whose checkpoint it is.
        backbone: beginning of the backbone's keys.
        others: beginnings of all other keys, and what these are; None where a method of the host
            may have any other part.
        numbered: whether the backbone is a ``Sequential`` of a ResNet's children.
        wrapper: key of the file under which the weights must stand; None for any.
    """

    name: str
    backbone: str
    others: Mapping[str, str] | None
    numbered: bool = False
    wrapper: str | None = None

    def fits(self, wrapper: str | None, state: Mapping[str, Any]) -> bool:
        """Whether weights that stand under ``wrapper`` are in this layout."""
        return self.wrapper in (None, wrapper) and any(
            key.startswith(self.backbone) for key in state
        )

    def part(self, key: str) -> str | None:
        """What a key outside the backbone belongs to; None where that is not known."""
        if key.endswith(COUNTERS):
            return "counters of thop"
        if self.others is None:
            return None if key.startswith(self.backbone) else key.split(".")[0]
        return next((what for start, what in self.others.items() if key.startswith(start)), None)


LAYOUTS = (
    Layout("solo-learn's layout", "backbone.", None, wrapper="state_dict"),
    Layout("an older solo-learn's layout", "encoder.", None, wrapper="state_dict"),
    Layout(
        "fastssl's layout",
        "backbone.feats.",
        {"backbone.proj.": "projector", "backbone.pred.": "predictor", "fc.": "classifier"},
        numbered=True,
    ),
    Layout(
        "Barlow Twins' layout", "backbone.", {"projector.": "projector", "bn.": "batch-norm of z"}
    ),
    Layout(
        "mix-bt's layout for small images",
        "f.",
        {"g.": "projector", "fc.": "classifier"},
        numbered=True,
    ),
    Layout(
        "a backbone alone",
        "",
        {
            start: "classifier"
            for start in ("fc.", "head.weight", "head.bias", "head.fc.")  # torchvision's, timm's
        },
    ),
)


class BackboneWeights(NamedTuple):
    """The backbone of a checkpoint.

    Attributes:
        layout: name of the checkpoint's layout.
        state: the backbone's tensors by torchvision's or timm's names.
        left: how many tensors were left, by what they belong to.
        stem: of the network that was trained, where the layout tells.
    """

    layout: str
    state: dict[str, Tensor]
    left: Counter[str]
    stem: Stem | None

    def __str__(self) -> str:
        left = ", ".join(f"{part} {count}" for part, count in self.left.items())
        return f"{self.layout}: {len(self.state)} tensors taken, {self.left.total()} left" + (
            f" ({left})" if left else ""
        )


def find_backbone(content: Any, source: str | Path) -> BackboneWeights:
    """The backbone in a checkpoint's content.

    Args:
        content: what `read_file` returned.
        source: what errors call the checkpoint.

    Raises:
        ValueError: it is no checkpoint, or has parts that its layout does not explain.
    """
    wrapper, state = _unwrap(content)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"{source}: not a checkpoint: no named tensors in it.")
    layout = next(layout for layout in LAYOUTS if layout.fits(wrapper, state))
    taken: dict[str, Tensor] = {}
    left: Counter[str] = Counter()
    for key, value in state.items():
        part = layout.part(key)
        if part is not None:
            left[part] += 1
        elif key.startswith(layout.backbone):
            taken[key.removeprefix(layout.backbone)] = value
        else:
            raise ConfigError(
                f"{source}: looks like {layout.name}, which does not explain the key {key!r}."
            )
    stem = None
    if layout.numbered:
        taken, stem = _name_children(taken, source)
    return BackboneWeights(layout.name, taken, left, stem)


def _unwrap(content: Any) -> tuple[str | None, dict[str, Any]]:
    """The key under which the weights stand, and the weights, without the ``module.`` of DDP."""
    wrapper = None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            wrapper, content = key, content[key]
            break
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        return wrapper, {}
    if all(key.startswith("module.") for key in content):
        content = {key.removeprefix("module."): value for key, value in content.items()}
    return wrapper, content


def _name_children(
    state: Mapping[str, Tensor], source: str | Path
) -> tuple[dict[str, Tensor], Stem]:
    """A numbered ResNet's tensors by torchvision's names, and its stem.

    Both codes put a 3 x 3 convolution with padding 1 first (mix-bt model.py:23, fastssl
    backbone.py:61). The children between the batch-norm and the first stage have no weights: none
    (fastssl's own ResNet, whose ReLU is not a child), a ReLU, or a ReLU and a max-pooling.
    """
    numbers = sorted({key.partition(".")[0] for key in state}, key=lambda text: (len(text), text))
    if len(numbers) != 6 or numbers[:2] != ["0", "1"] or numbers[2] not in ("2", "3", "4"):
        raise ConfigError(
            f"{source}: its numbered parts with weights are {', '.join(numbers)}; a ResNet has "
            "six, and its first stage is part 2, 3 or 4."
        )
    names = dict(zip(numbers, RESNET_PARTS))
    named = {}
    for key, value in state.items():
        number, _, rest = key.partition(".")
        # fastssl's ResNet says shortcut where torchvision's says downsample.
        named[f"{names[number]}.{rest.replace('shortcut.', 'downsample.')}"] = value
    between = int(numbers[2]) - 2
    return named, Stem(padding=1, relu=between >= 1, max_pool=between == 2)


def load_into(backbone: nn.Module, weights: BackboneWeights, source: str | Path) -> None:
    """Fills every parameter and buffer of a backbone.

    Raises:
        ValueError: the weights are of another architecture.
    """
    expected = {key: value.shape for key, value in backbone.state_dict().items()}
    found = {key: value.shape for key, value in weights.state.items()}
    problems = [
        # Files of PyTorch before 0.4.1 have none of these counters.
        *(
            f"{key} is missing"
            for key in expected.keys() - found.keys()
            if not key.endswith("num_batches_tracked")
        ),
        *(f"{key} has no counterpart" for key in found.keys() - expected.keys()),
        *(
            f"{key} is {_shape(found[key])} there, {_shape(expected[key])} here"
            for key in expected.keys() & found.keys()
            if found[key] != expected[key]
        ),
    ]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ConfigError(
            f"{source}: holds another backbone than backbone.name says. Read as {weights.layout}, "
            f"{'; '.join(sorted(problems)[:3])}{more}."
        )
    backbone.load_state_dict(weights.state)


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape)) or "a number"
