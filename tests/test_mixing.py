"""Mixing coefficients, permutations and mixed images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixbt_plugin.mixing import Mixing, draw_mixing, mix_images


def test_a_draw_is_a_function_of_its_seed() -> None:
    first, second = draw_mixing(16, seed=(5, 0, 1, 2)), draw_mixing(16, seed=(5, 0, 1, 2))
    assert first.coefficient == second.coefficient
    assert torch.equal(first.perm, second.perm)
    for other in ((6, 0, 1, 2), (5, 1, 1, 2), (5, 0, 2, 2), (5, 0, 1, 3)):
        assert draw_mixing(16, seed=other).coefficient != first.coefficient


def test_permutation_and_shapes() -> None:
    mixing = draw_mixing(64, per_sample=True)
    assert torch.as_tensor(mixing.coefficient).shape == (64,)
    assert mixing.perm.sort().values.equal(torch.arange(64))
    assert isinstance(draw_mixing(64).coefficient, float)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_coefficients_follow_the_beta_distribution(alpha: float) -> None:
    drawn = np.asarray(draw_mixing(20_000, alpha=alpha, per_sample=True).coefficient)
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
    assert np.var(drawn) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    assert 0 <= drawn.min() <= drawn.max() <= 1


@pytest.mark.parametrize("per_sample", [False, True])
def test_mixed_images(per_sample: bool) -> None:
    x_a, x_b = torch.randn(2, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    mixing = draw_mixing(4, per_sample=per_sample, seed=(1,))
    mixed = mix_images(x_a, x_b, mixing)
    share = torch.as_tensor(mixing.coefficient).expand(4)
    for n in range(4):
        expected = share[n] * x_a[n] + (1 - share[n]) * x_b[mixing.perm[n]]
        torch.testing.assert_close(mixed[n], expected)


def test_the_images_type_is_kept() -> None:
    images = torch.ones(2, 3, 2, 2, dtype=torch.bfloat16)
    mixing = Mixing(torch.tensor(0.25), torch.tensor([1, 0]))
    assert mix_images(images, images, mixing).dtype == torch.bfloat16
