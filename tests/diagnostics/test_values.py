"""Diagnostics against closed forms, and against the papers' formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mixbt_plugin.diagnostics import (
    alignment,
    alpha_req,
    dead_dimensions,
    eigenvalues,
    lidar,
    off_diagonal_energy,
    rank_me,
    uniformity,
)


def orthonormal(rows: int, columns: int) -> Tensor:
    """Columns of length 1 at right angles, each of mean 0."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(z - z.mean(dim=0)).Q


def with_spectrum(variances: Tensor, rows: int) -> Tensor:
    """Features (rows, K) whose covariance has these eigenvalues, in no special directions."""
    dim = len(variances)
    turned = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64)).Q
    return orthonormal(rows, dim) * (rows * variances).sqrt() @ turned


@pytest.mark.parametrize("rows, dim", [(64, 20), (64, 200)], ids=["N > D", "N < D"])
@pytest.mark.parametrize("k", [1, 7, 16])
def test_rank_me_of_k_equal_directions_is_k(k: int, rows: int, dim: int) -> None:
    z = torch.zeros(rows, dim, dtype=torch.float64)
    z[:, :k] = orthonormal(rows, k)
    # The paper's ε of 1e-7 alone, in each of the other directions, would make 1.0001 of 1.
    assert float(rank_me(z, epsilon=1e-12)) == pytest.approx(k, rel=1e-5)


def test_rank_me_is_the_papers_formula() -> None:
    z = torch.randn(40, 24, dtype=torch.float64) + 1
    singular = torch.linalg.svdvals(z)
    p = singular / singular.sum() + 1e-7
    assert float(rank_me(z)) == pytest.approx(math.exp(-float((p * p.log()).sum())), rel=1e-9)


def test_rank_me_of_nothing_is_zero() -> None:
    assert float(rank_me(torch.zeros(8, 3))) == 0


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.8])
@pytest.mark.parametrize("rows", [300, 140], ids=["N > D", "N < D"])
def test_alpha_of_a_power_law_is_its_exponent(alpha: float, rows: int) -> None:
    ranks = torch.arange(1, 121, dtype=torch.float64)
    z = with_spectrum(ranks**-alpha, rows)
    z = torch.cat([z, torch.zeros(rows, 60, dtype=torch.float64)], dim=1)
    law = alpha_req(z)
    assert float(law.alpha) == pytest.approx(alpha, rel=1e-8)
    assert float(law.r_squared) == pytest.approx(1, abs=1e-8)
    assert law[2:] == (11, 100)


def test_alpha_says_which_ranks_were_left() -> None:
    ranks = torch.arange(1, 31, dtype=torch.float64)
    assert alpha_req(with_spectrum(1 / ranks, 80)).last == 30
    assert math.isnan(alpha_req(with_spectrum(1 / ranks[:12], 80)).alpha)


def test_alpha_refuses_what_are_no_ranks() -> None:
    with pytest.raises(ValueError, match="first=5, last=5: expected ranks"):
        alpha_req(torch.randn(9, 9), first=5, last=5)


def test_eigenvalues_are_those_of_the_covariance() -> None:
    z = torch.randn(30, 12, dtype=torch.float64) + 2
    expected = torch.linalg.eigvalsh(torch.cov(z.T, correction=0)).flip(0)
    torch.testing.assert_close(eigenvalues(z), expected, rtol=1e-9, atol=1e-12)


def plain_lidar(views: Tensor, delta: float) -> float:
    n, count, dim = views.shape
    means = views.mean(dim=1)
    between = sum(torch.outer(m, m) for m in means - means.mean(dim=0)) / n
    within = sum(torch.outer(x, x) for x in (views - means[:, None]).flatten(0, 1)) / (n * count)
    values, vectors = torch.linalg.eigh(within + delta * torch.eye(dim, dtype=views.dtype))
    root = vectors / values.sqrt() @ vectors.T
    spectrum = torch.linalg.eigvalsh(root @ between @ root).clamp(min=0)
    p = spectrum / spectrum.sum() + 1e-7
    return math.exp(-float((p * p.log()).sum()))


@pytest.mark.parametrize(
    "n, count, dim", [(40, 3, 6), (8, 4, 12), (6, 2, 30)], ids=["D < N", "N < D", "N·V < D"]
)
def test_lidar_is_the_papers_formula_on_each_side(n: int, count: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(n)
    views = torch.randn(n, 1, dim, generator=generator, dtype=torch.float64)
    views = views + 0.5 * torch.randn(n, count, dim, generator=generator, dtype=torch.float64)
    # More values of 0 than the other side has would each add ε log ε.
    assert float(lidar(views, delta=1e-2)) == pytest.approx(plain_lidar(views, 1e-2), rel=1e-4)


def test_lidar_of_k_equal_directions_is_k() -> None:
    views = torch.zeros(50, 2, 9, dtype=torch.float64)
    views[:, :, :4] = orthonormal(50, 4)[:, None]
    assert float(lidar(views)) == pytest.approx(4, rel=1e-4)


def test_lidar_refuses_features_without_groups() -> None:
    with pytest.raises(ValueError, match=r"expected features \(N, V, D\)"):
        lidar(torch.randn(8, 3))


def test_alignment_and_uniformity_are_the_papers_formulas() -> None:
    a, b = torch.randn(2, 20, 5, dtype=torch.float64)
    x, y = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    expected = sum(float((x[i] - y[i]).norm()) ** 2 for i in range(20)) / 20
    assert float(alignment(a, b)) == pytest.approx(expected, rel=1e-12)
    pairs = [(i, j) for i in range(20) for j in range(20) if i != j]
    mean = sum(math.exp(-2 * float((x[i] - x[j]).norm()) ** 2) for i, j in pairs) / len(pairs)
    assert float(uniformity(a)) == pytest.approx(math.log(mean), rel=1e-12)


def test_alignment_of_equal_views_is_zero_and_uniformity_of_equal_images() -> None:
    z = torch.randn(1, 6).expand(9, 6)
    assert float(alignment(z, z)) == 0
    assert float(uniformity(z)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rows", [50, 8], ids=["N > D", "N < D"])
def test_off_diagonal_energy_is_that_of_the_correlation_matrix(rows: int) -> None:
    z = torch.randn(rows, 12, dtype=torch.float64) @ torch.randn(12, 12, dtype=torch.float64) + 3
    correlation = torch.corrcoef(z.T)
    expected = float((correlation.square().sum() - 12) / (12 * 11))
    assert float(off_diagonal_energy(z)) == pytest.approx(expected, rel=1e-9)


def test_dead_dimensions_are_counted_and_have_no_correlation() -> None:
    z = orthonormal(30, 5)
    z[:, 2] = 0.7
    assert int(dead_dimensions(z)) == 1
    assert float(off_diagonal_energy(z)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dim", [512, 16])
def test_lidar_of_features_that_have_exploded(dim: int) -> None:
    """δ is below their rounding, and half of the dimensions do not differ within an image."""
    generator = torch.Generator().manual_seed(0)
    views = torch.randn(32, 1, dim, generator=generator).repeat(1, 2, 1)
    views[..., : dim // 2] += 0.3 * torch.randn(32, 2, dim // 2, generator=generator)
    found = [float(lidar(scale * views)) for scale in (1e8, 1e10)]
    assert 1 <= found[0] == pytest.approx(found[1], rel=1e-3)
