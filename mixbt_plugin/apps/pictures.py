"""Pictures of features and of images that lie near each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbt_plugin.diagnostics import eigenvalues, fit_power_law
from mixbt_plugin.settings import MissingPackageError

MOST_GROUPS = 20
"""More than these cannot be told apart by their colours."""
FEWEST_FOR_UMAP = 5
"""Of fewer it takes no eigenvectors to begin with."""
NAME_LENGTH = 22
MOST_DIMENSIONS = 512
"""More than these are not seen apart in a picture of a matrix."""


def require_matplotlib(asked_by: str) -> None:
    """Raises MissingPackageError, which names the key that asks, where matplotlib lacks."""
    if find_spec("matplotlib") is None:
        raise MissingPackageError(f"{asked_by} needs matplotlib: pip install matplotlib.")


def draw_features(
    features: NDArray[np.float32], labels: Sequence[str] | None, title: str, file: Path
) -> list[str]:
    """Draws features in two dimensions: by PCA and, if umap-learn is installed, by UMAP beside it.

    Args:
        features: (N, F), N of at least 3.
        labels: a class or group of each image, told by its colour if there are at most 20 of them;
            None where there are none.
        title: stands above.
        file: the picture's path; its suffix is the format.

    Returns:
        The names of what was drawn.
    """
    from matplotlib.figure import Figure

    maps = {"PCA": _pca(features)}
    if find_spec("umap") is not None and len(features) >= FEWEST_FOR_UMAP:
        maps["UMAP"] = (_umap(features), ("", ""))
    groups = sorted(set(labels or ()))
    coloured = 2 <= len(groups) <= MOST_GROUPS
    figure = Figure(figsize=(5.6 * len(maps) + 1.6 * coloured, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=9)
    for panel, (name, (points, axes)) in zip(
        figure.subplots(1, len(maps), squeeze=False)[0], maps.items()
    ):
        _scatter(panel, points, labels if coloured else None, groups)
        panel.set_title(name, fontsize=9)
        panel.set_xlabel(axes[0])
        panel.set_ylabel(axes[1])
    if coloured:
        handles, names = panel.get_legend_handles_labels()
        legend: Any = figure.legend(handles, names, loc="outside right center", fontsize=7)
        for handle in legend.legend_handles:
            handle.set_sizes([30])
    figure.savefig(file, dpi=110)
    return list(maps)


def _pca(features: NDArray[np.float32]) -> tuple[NDArray[Any], tuple[str, str]]:
    from sklearn.decomposition import PCA

    pca = PCA(n_components=2, random_state=0)
    points = pca.fit_transform(features)
    first, second = (f"{share:.1%} of the variance" for share in pca.explained_variance_ratio_)
    return points, (first, second)


def _umap(features: NDArray[np.float32]) -> NDArray[Any]:
    from umap import UMAP

    neighbours = min(15, len(features) - 1)
    return UMAP(n_neighbors=neighbours, metric="cosine", random_state=0).fit_transform(features)


def _scatter(
    panel: Any, points: NDArray[Any], labels: Sequence[str] | None, groups: list[str]
) -> None:
    from matplotlib import colormaps

    size = float(np.clip(8000 / len(points), 2, 20))
    if labels is None:
        panel.scatter(*points.T, s=size, lw=0)
    else:
        colors = colormaps["tab10" if len(groups) <= 10 else "tab20"]
        of = np.array(labels)
        for number, group in enumerate(groups):
            panel.scatter(*points[of == group].T, s=size, lw=0, color=colors(number), label=group)
    panel.set_xticks([])
    panel.set_yticks([])


def draw_spectra(kinds: Mapping[str, Tensor], title: str, file: Path) -> None:
    """Draws the spectra of features with the fitted α, and the correlation of the last ones.

    Args:
        kinds: features (N, F) by their name, of the images that α-ReQ is of.
        title: stands above.
        file: the picture's path; its suffix is the format.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.2, 5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    left, right = figure.subplots(1, 2)
    for number, (name, z) in enumerate(kinds.items()):
        _draw_spectrum(left, name, eigenvalues(z).cpu(), f"C{number}")
    left.set_xscale("log")
    left.set_yscale("log")
    left.set_xlabel("rank")
    left.set_ylabel("eigenvalue of the covariance, the first is 1")
    left.legend(fontsize=8)
    correlation, some = _correlation(z.cpu().double())
    shown = right.imshow(
        correlation.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
    )
    right.set_title(f"correlation of {name}, {some} of {z.size(1)} dimensions", fontsize=9)
    figure.colorbar(shown, ax=right, shrink=0.8)
    figure.savefig(file, dpi=110)


def _draw_spectrum(panel: Any, name: str, spectrum: Tensor, color: str) -> None:
    law = fit_power_law(spectrum)
    # Of features that are all the same there is nothing that a logarithm could show.
    spectrum = spectrum / spectrum[0] if spectrum[0] > 0 else torch.ones(1)
    above_rounding = spectrum[spectrum > 1e-12]
    few = f"{name}: too few eigenvalues for α" if law.alpha.isnan() else None
    ranks = np.arange(1, len(above_rounding) + 1)
    panel.plot(ranks, above_rounding.numpy(), color=color, lw=1, label=few)
    if few:
        return
    rank = torch.arange(law.first, law.last + 1, dtype=torch.float64)
    ends, weight = torch.tensor([law.first, law.last]), (1 / rank) / (1 / rank).sum()
    offset = (weight * (spectrum[law.first - 1 : law.last].log() + law.alpha * rank.log())).sum()
    label = f"{name}: α {law.alpha:.2f} of ranks {law.first} to {law.last}, R² {law.r_squared:.3f}"
    line = (offset - law.alpha * ends.log()).exp()
    panel.plot(ends.numpy(), line.numpy(), color=color, lw=3, label=label)


def _correlation(z: Tensor) -> tuple[Tensor, int]:
    """Of dimensions spread evenly over all, at most `MOST_DIMENSIONS`; 0 with dead ones."""
    some = torch.linspace(0, z.size(1) - 1, min(z.size(1), MOST_DIMENSIONS)).long()
    z = z[:, some] - z[:, some].mean(dim=0)
    z = z / z.norm(dim=0).clamp_min(torch.finfo(z.dtype).tiny)
    return z.T @ z, len(some)


def draw_contact_sheet(
    rows: Sequence[Sequence[tuple[Any, str, str]]], title: str, file: Path
) -> None:
    """Draws rows of images: the first of a row was asked for, the others are its neighbours.

    Args:
        rows: of images (PIL), their names and what stands below those.
        title: stands above.
        file: the picture's path; its suffix is the format.
    """
    from matplotlib.figure import Figure

    columns = max(map(len, rows))
    figure = Figure(figsize=(1.5 * columns, 0.5 + 1.85 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=9)
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for row, of_row in zip(rows, panels):
        for panel in of_row[len(row) :]:
            panel.axis("off")
        for panel, (image, name, text) in zip(of_row, row):
            panel.imshow(image)
            short = name if len(name) <= NAME_LENGTH else f"…{name[1 - NAME_LENGTH :]}"
            panel.set_title(f"{short}\n{text}", fontsize=6, parse_math=False)
            panel.set_xticks([])
            panel.set_yticks([])
        for spine in of_row[0].spines.values():
            spine.set(color="tab:red", linewidth=2.5)
    figure.savefig(file, dpi=130)
