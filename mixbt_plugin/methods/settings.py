"""The ``method_kwargs`` of a config: their types, ranges, defaults and sources.

A method declares its keys as the fields of a dataclass, by `setting`. That one declaration gives
the defaults, the checks before training, and the table in the documentation.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

REQUIRED = "???"
"""OmegaConf's mark of a value that must be given."""


def setting(
    default: Any = REQUIRED,
    *,
    help: str,
    source: str,
    low: float = -math.inf,
    above: float = -math.inf,
    choices: Sequence[str] = (),
) -> Any:
    """Declares one key of ``method_kwargs``.

    Args:
        default: its value where the config has none; the key is required without one.
        help: what it is, for the documentation.
        source: where the default is from.
        low: smallest value allowed.
        above: value that must be exceeded.
        choices: the values allowed, where they are names.

    Returns:
        A dataclass field.
    """
    metadata = {"help": help, "source": source, "low": low, "above": above, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass
class ProjectorSettings:
    """Keys of the projector, shared by all methods."""

    proj_hidden_dim: int = setting(
        help="width of the hidden layers", source="required, as in solo-learn", low=1
    )
    proj_output_dim: int = setting(
        help="dimension D of the embeddings", source="required, as in solo-learn", low=1
    )
    proj_num_layers: int = setting(
        3, help="linear layers; batch-norm and ReLU between them", source="solo-learn", low=1
    )
    proj_hidden_bias: bool = setting(
        True,
        help="bias in all linear layers but the last (mix-bt, HSIC-SSL, fastssl, Barlow Twins: "
        "False)",
        source="solo-learn",
    )
    proj_output_bias: bool = setting(
        True, help="bias in the last linear layer (Barlow Twins: False)", source="solo-learn"
    )
    normalize_output: bool = setting(
        False,
        help="L2-normalise each embedding before the loss (mix-bt on small images, HSIC-SSL, "
        "fastssl: True)",
        source="solo-learn",
    )


@dataclass
class LossSettings:
    """Keys of how a loss is computed, shared by all methods."""

    impl: str = setting(
        "auto",
        help="side on which the energy is computed: gram (N x N), dense (D x D) or auto",
        source="this plugin",
        choices=("auto", "gram", "dense"),
    )
    ddp: str = setting(
        "exact",
        help="exact: the loss of the global batch; legacy: solo-learn's local statistics and "
        "1 / world_size gradient",
        source="this plugin",
        choices=("exact", "legacy"),
    )

    def loss_arguments(self) -> dict[str, Any]:
        """The keys that are keyword arguments of the loss, by the same names."""
        return {"impl": self.impl, "ddp": self.ddp}


@dataclass
class BarlowTwinsSettings(LossSettings, ProjectorSettings):
    """Keys of Barlow Twins' loss."""

    lamb: float = setting(
        0.0051, help="weight of the off-diagonal term", source="solo-learn, barlowtwins", low=0
    )
    scale_loss: float = setting(
        0.024, help="factor of the whole loss", source="solo-learn", above=0
    )
    unbiased: bool = setting(
        False,
        help="standardise with the unbiased variance (mix-bt, HSIC-SSL, fastssl: True)",
        source="solo-learn, barlowtwins",
    )
    eps: float = setting(
        1e-5,
        help="added to the variance (mix-bt, HSIC-SSL, fastssl: 0)",
        source="solo-learn, barlowtwins",
        low=0,
    )

    def loss_arguments(self) -> dict[str, Any]:
        """The keys that are keyword arguments of the loss, by the same names."""
        return {
            **super().loss_arguments(),
            "lamb": self.lamb,
            "scale_loss": self.scale_loss,
            "unbiased": self.unbiased,
            "eps": self.eps,
        }


def parse_settings(declaration: type, method_kwargs: DictConfig | None, method: str) -> Any:
    """Checks ``method_kwargs`` against a method's declaration.

    Args:
        declaration: dataclass of `setting` fields.
        method_kwargs: the config's node.
        method: name for the messages.

    Returns:
        An instance of the dataclass, defaults filled in.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type or out of range; names
            the key, the value and what would be right.
    """
    known = {field.name: field for field in fields(declaration)}
    given: Any = OmegaConf.to_container(OmegaConf.create(method_kwargs or {}), resolve=True)
    if not isinstance(given, dict):
        raise ValueError(f"method_kwargs={given!r}: expected keys with values.")
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"{method} knows {', '.join(known)}."
            raise ValueError(f"method_kwargs.{key} is not a key of {method}: {hint}")

    checked = OmegaConf.structured(declaration)
    for key, value in given.items():
        try:
            checked[key] = value
        except OmegaConfBaseException as error:
            kind = known[key].type
            raise ValueError(f"method_kwargs.{key}={value!r}: expected {kind}.") from error
    for key, declared in known.items():
        if OmegaConf.is_missing(checked, key):
            raise ValueError(
                f"method_kwargs.{key} is missing: {declared.metadata['help']}; {method} has no "
                "default for it."
            )
        _check_range(key, checked[key], declared.metadata)
    return OmegaConf.to_object(checked)


def _check_range(key: str, value: Any, allowed: Any) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if allowed["choices"] and value not in allowed["choices"]:
            expected = ", ".join(allowed["choices"])
            raise ValueError(f"method_kwargs.{key}={value!r}: expected one of {expected}.")
        return
    if not math.isfinite(value):
        raise ValueError(f"method_kwargs.{key}={value}: expected a finite number.")
    if value < allowed["low"]:
        raise ValueError(f"method_kwargs.{key}={value}: expected at least {allowed['low']:g}.")
    if value <= allowed["above"]:
        raise ValueError(f"method_kwargs.{key}={value}: expected more than {allowed['above']:g}.")
