"""The ``method_kwargs`` that methods share: their types, ranges, defaults and sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mixbt_plugin.settings import check_section, setting


@dataclass
class ProjectorWidths:
    """Keys of the projector that solo-learn's methods have too."""

    proj_hidden_dim: int = setting(
        help="width of the hidden layers", source="required, as in solo-learn", low=1
    )
    proj_output_dim: int = setting(
        help="dimension D of the embeddings", source="required, as in solo-learn", low=1
    )


@dataclass
class ProjectorSettings(ProjectorWidths):
    """Keys of the projector, shared by all methods."""

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
        "1 / world_size gradient; local: a loss per process, whose gradients are averaged "
        "(fastssl on ImageNet-100)",
        source="this plugin",
        choices=("exact", "legacy", "local"),
    )

    def loss_arguments(self) -> dict[str, Any]:
        """The keys that are keyword arguments of the loss, by the same names."""
        return {"impl": self.impl, "ddp": self.ddp}


@dataclass
class BarlowTwinsWeights:
    """Keys of Barlow Twins' loss that solo-learn's has too."""

    lamb: float = setting(
        0.0051, help="weight of the off-diagonal term", source="solo-learn, barlowtwins", low=0
    )
    scale_loss: float = setting(
        0.024, help="factor of the whole loss", source="solo-learn", above=0
    )


@dataclass
class BarlowTwinsSettings(BarlowTwinsWeights, LossSettings, ProjectorSettings):
    """Keys of Barlow Twins' loss."""

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


@dataclass
class VICRegWeights:
    """Keys of VICReg's loss that solo-learn's has too."""

    sim_loss_weight: float = setting(
        25.0, help="weight of the invariance term", source="solo-learn", low=0
    )
    var_loss_weight: float = setting(
        25.0, help="weight of the variance term", source="solo-learn", low=0
    )
    cov_loss_weight: float = setting(
        1.0, help="weight of the covariance term", source="solo-learn", low=0
    )


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
    given: Any = {} if method_kwargs is None else method_kwargs
    if OmegaConf.is_config(given):
        given = OmegaConf.to_container(given, resolve=True)
    return declaration(**check_section(declaration, given, "method_kwargs", owner=method))
