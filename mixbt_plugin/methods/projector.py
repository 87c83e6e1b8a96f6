"""The projector between a backbone's features and the loss."""

from __future__ import annotations

from torch import nn


def build_projector(
    features_dim: int,
    hidden_dim: int,
    output_dim: int,
    *,
    num_layers: int = 3,
    hidden_bias: bool = True,
    output_bias: bool = True,
) -> nn.Sequential:
    """Linear layers with batch-norm and ReLU between them.

    Three layers with biases are solo-learn's (solo/methods/barlow_twins.py:51-59), with the same
    parameter names; without biases Barlow Twins' own (barlowtwins/main.py:191-202). Two layers with
    ``hidden_bias=False`` are those of Mixed Barlow Twins (mix-bt/model.py:33-34), HSIC-SSL and the
    multi-augmentation code.

    Args:
        features_dim: dimension of the input (N, features_dim).
        hidden_dim: width of the hidden layers.
        output_dim: dimension of the output (N, output_dim).
        num_layers: number of linear layers.
        hidden_bias: bias in all linear layers but the last.
        output_bias: bias in the last linear layer.

    Returns:
        The projector.
    """
    layers: list[nn.Module] = []
    width = features_dim
    for _ in range(num_layers - 1):
        layers += [
            nn.Linear(width, hidden_dim, bias=hidden_bias),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(),
        ]
        width = hidden_dim
    layers.append(nn.Linear(width, output_dim, bias=output_bias))
    return nn.Sequential(*layers)
