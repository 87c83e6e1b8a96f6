"""Every loss of tests/embeddings.py once more, with D x D matrices in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from tests.embeddings import reversed_rows


def standardized(z: Tensor) -> Tensor:
    return (z - z.mean(dim=0)) / torch.sqrt(z.var(dim=0, correction=0) + 1e-5)


def redundancy(c: Tensor, lamb: float = 0.0051, target: float = 0.0) -> Tensor:
    off = 1 - torch.eye(len(c), dtype=c.dtype)
    return (1 - c.diagonal()).square().sum() + lamb * (off * (c - target)).square().sum()


def barlow_twins(views: Sequence[Tensor], **kwargs: float) -> Tensor:
    a, b = map(standardized, views)
    return redundancy(a.T @ b / len(a), **kwargs)


def mixed(views: Sequence[Tensor], target: str) -> Tensor:
    a, b, m = map(standardized, views)
    n, shuffled = len(a), b[reversed_rows(len(b))]
    own = a if target == "paper" else b
    of_a = (m - 0.3 * a - 0.7 * shuffled).T @ a / n
    of_b = (m - 0.3 * own - 0.7 * shuffled).T @ b / n
    factor = 1.0 if target == "paper" else 0.5
    return redundancy(a.T @ b / n) + factor * 0.0051 * (of_a.square().sum() + of_b.square().sum())


def all_pairs(zs: Sequence[Tensor]) -> Tensor:
    return torch.stack([redundancy(a.T @ b / len(a)) for a, b in combinations(zs, 2)]).mean()


def mean_view(views: Sequence[Tensor]) -> Tensor:
    zs = [standardized(z) for z in views]
    mean = torch.stack(zs).mean(dim=0)
    c = mean.T @ mean / len(mean)
    off = (c - torch.diag(c.diagonal())).square().sum()
    on = [(1 - (z * mean).mean(dim=0)).square().sum() for z in zs]
    return torch.stack(on).mean() + 0.0051 * off


def mixed_multiview(views: Sequence[Tensor], pairing: str) -> Tensor:
    *zs, m = [standardized(z) for z in views]
    n = len(m)
    residual = m - 0.3 * zs[0] - 0.7 * zs[1][reversed_rows(n)]
    mean = torch.stack(zs).mean(dim=0)
    partners = zs if pairing == "all" else [mean]
    of_residual = [(residual.T @ z / n).square().sum() for z in partners]
    loss = all_pairs(zs) if pairing == "all" else mean_view(views[:-1])
    return loss + 0.0051 * 2 * torch.stack(of_residual).mean()


def pooled(views: Sequence[Tensor]) -> Tensor:
    return all_pairs(standardized(torch.cat(list(views))).chunk(len(views)))


def vicreg_pair(x: Tensor, y: Tensor) -> Tensor:
    loss = 25 * (x - y).square().mean()
    for z in (x, y):
        covariance = torch.cov(z.T)
        off = covariance - torch.diag(covariance.diagonal())
        deviation = torch.sqrt(covariance.diagonal() + 1e-4)
        loss = loss + 25 * torch.relu(1 - deviation).mean() + off.square().sum() / z.size(1)
    return loss


def vicreg_all(views: Sequence[Tensor]) -> Tensor:
    return torch.stack([vicreg_pair(x, y) for x, y in combinations(views, 2)]).mean()


def vicreg_mean(views: Sequence[Tensor]) -> Tensor:
    total = torch.stack(list(views)).sum(dim=0)
    others = [(total - z) / (len(views) - 1) for z in views]
    return torch.stack([vicreg_pair(z, other) for z, other in zip(views, others)]).mean()


STATEMENTS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "barlow_twins": barlow_twins,
    "hsic_ssl": lambda views: barlow_twins(views, lamb=0.01, target=-1.0),
    "mixed_paper": lambda views: mixed(views, "paper"),
    "mixed_imagenet": lambda views: mixed(views, "imagenet-code"),
    "mixed_multiview_all": lambda views: mixed_multiview(views, "all"),
    "mixed_multiview_mean": lambda views: mixed_multiview(views, "mean"),
    "multiview_all": lambda views: all_pairs([standardized(z) for z in views]),
    "multiview_mean": mean_view,
    "multiview_pooled": pooled,
    "vicreg_all": vicreg_all,
    "vicreg_mean": vicreg_mean,
}
