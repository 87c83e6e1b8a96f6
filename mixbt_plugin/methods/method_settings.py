"""The ``method_kwargs`` that methods share: their types, ranges, defaults and sources."""

from __future__ import annotations

from typing import TypeVar

from omegaconf import DictConfig

from mixbt_plugin.functional import Ddp, Impl
from mixbt_plugin.settings import REQUIRED, Section, check, plain, setting

S = TypeVar("S", bound=Section)


class ProjectorWidths(Section):
    """Keys of the projector that solo-learn's methods have too."""

    proj_hidden_dim: int = setting(
        REQUIRED,
        help="width of the hidden layers",
        source="required, as in solo-learn",
        ge=1,
        le=2**20,
    )
    proj_output_dim: int = setting(
        REQUIRED,
        help="dimension D of the embeddings",
        source="required, as in solo-learn",
        ge=1,
        le=2**20,
    )


class ProjectorSettings(ProjectorWidths):
    """Keys of the projector, shared by all methods."""

    proj_num_layers: int = setting(
        3, help="linear layers; batch-norm and ReLU between them", source="solo-learn", ge=1, le=64
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


class LossSettings(Section):
    """Keys of how a loss is computed, shared by all methods."""

    impl: Impl = setting(
        "auto",
        help="side on which the energy is computed: gram (N x N), dense (D x D) or auto",
        source="this plugin",
    )
    ddp: Ddp = setting(
        "exact",
        help="exact: the loss of the global batch; legacy: solo-learn's local statistics and "
        "1 / world_size gradient; legacy-sync: that gradient with the statistics of the global "
        "batch (Barlow Twins); local: a loss per process, whose gradients are averaged "
        "(fastssl on ImageNet-100)",
        source="this plugin",
    )


class BarlowTwinsWeights(Section):
    """Keys of Barlow Twins' loss that solo-learn's has too.

    ``scale_loss`` has solo-learn's default, so that a config means the same there; the functions
    of `mixbt_plugin.losses` have 1, the papers' formula as it stands.
    """

    lamb: float = setting(
        0.0051, help="weight of the off-diagonal term", source="solo-learn, barlowtwins", ge=0
    )
    scale_loss: float = setting(0.024, help="factor of the whole loss", source="solo-learn", gt=0)


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
        ge=0,
    )


class VICRegWeights(Section):
    """Keys of VICReg's loss that solo-learn's has too."""

    sim_loss_weight: float = setting(
        25.0, help="weight of the invariance term", source="solo-learn", ge=0
    )
    var_loss_weight: float = setting(
        25.0, help="weight of the variance term", source="solo-learn", ge=0
    )
    cov_loss_weight: float = setting(
        1.0, help="weight of the covariance term", source="solo-learn", ge=0
    )


def parse_settings(declaration: type[S], method_kwargs: DictConfig | None, method: str) -> S:
    """Checks ``method_kwargs`` against a method's declaration.

    Args:
        declaration: a `Section`.
        method_kwargs: the config's node.
        method: name for the messages.

    Returns:
        The settings, defaults filled in.

    Raises:
        ConfigError: unknown and missing keys, values of the wrong type or out of range; names the
            key, the value and what would be right.
    """
    return check(declaration, plain(method_kwargs), "method_kwargs", owner=method)
