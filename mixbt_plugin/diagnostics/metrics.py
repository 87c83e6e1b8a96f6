"""The diagnostics as torchmetrics: fed batch by batch, exact over processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from mixbt_plugin.diagnostics.hypersphere import alignment, uniformity
from mixbt_plugin.diagnostics.lidar import lidar
from mixbt_plugin.diagnostics.redundancy import dead_dimensions, off_diagonal_energy
from mixbt_plugin.diagnostics.spectrum import alpha_req, rank_me


class Diagnostics(Metric):
    """All measures of one kind of features, of the views of images.

    The features themselves are kept until `compute`, and brought together from all processes there,
    so that the numbers are those of all images at once, whatever the batches and processes. That is
    what bounds the number of images: 2,048 images with two views of 2,048 dimensions take 32 MiB.

    Args:
        kwargs: of `torchmetrics.Metric`.
    """

    full_state_update = False
    views: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("views", default=[], dist_reduce_fx="cat")

    def update(self, views: Tensor) -> None:
        """Takes a batch.

        Args:
            views: features (N, V, D) of V views of N images, the same V and D in each batch.
        """
        self.views.append(views.detach().float())

    def compute(self) -> dict[str, Tensor]:
        """The measures by name.

        Those of one set of features (``rank_me``, ``alpha``, ``uniformity``, ``off_diagonal``,
        ``dead``) are of the first view of each image; ``lidar`` and ``alignment`` compare views and
        are left out where there is one. ``images`` is how many images there were; all are 0-dim in
        float64.

        Raises:
            ValueError: there were no images.
        """
        if not len(self.views):
            raise ValueError("no images: update was not called.")
        views = dim_zero_cat(self.views)
        z = views[:, 0]
        law = alpha_req(z)
        measured = {
            "images": torch.tensor(len(views)),
            "rank_me": rank_me(z),
            "alpha": law.alpha,
            "alpha_r_squared": law.r_squared,
            "alpha_first": torch.tensor(law.first),
            "alpha_last": torch.tensor(law.last),
            "uniformity": uniformity(z),
            "off_diagonal": off_diagonal_energy(z),
            "dead": dead_dimensions(z),
        }
        if views.size(1) > 1:
            measured["alignment"] = alignment(z, views[:, 1])
            measured["lidar"] = lidar(views)
        return {name: value.double() for name, value in measured.items()}
