"""What must hold for every objective, whatever its formula."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch

from mixbt_plugin.losses import (
    barlow_twins_loss,
    mixed_barlow_twins_loss,
    multiview_barlow_twins_loss,
    multiview_mixed_barlow_twins_loss,
    multiview_vicreg_loss,
)
from tests.embeddings import LOSSES, random_views, reversed_rows, value_and_gradient
from tests.processes import Started

every_loss = pytest.mark.parametrize("name", LOSSES)
both_sides = pytest.mark.parametrize("n,d", [(6, 11), (12, 5)])


@every_loss
@both_sides
@pytest.mark.parametrize("impl", ["gram", "dense"])
def test_gradcheck(name: str, n: int, d: int, impl: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, n, d)
    assert torch.autograd.gradcheck(lambda *z: loss(z, impl=impl).loss, views)


@every_loss
@both_sides
def test_gram_equals_dense(name: str, n: int, d: int) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, n, d)
    gram, gram_gradient = value_and_gradient(loss, views, impl="gram")
    dense, dense_gradient = value_and_gradient(loss, views, impl="dense")
    torch.testing.assert_close(gram, dense, rtol=1e-12, atol=0)
    torch.testing.assert_close(gram_gradient, dense_gradient, rtol=1e-9, atol=1e-12)


@every_loss
@pytest.mark.parametrize("impl", ["gram", "dense"])
def test_memory_layout_does_not_matter(name: str, impl: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 6, 11)
    expected = value_and_gradient(loss, views, impl=impl)
    for v in range(count):
        mixed = list(views)
        mixed[v] = views[v].detach().T.contiguous().T.requires_grad_()
        for found, wanted in zip(value_and_gradient(loss, mixed, impl=impl), expected):
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@every_loss
def test_a_first_call_in_inference_mode_leaves_training_possible(name: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 6, 11)
    expected, expected_gradient = value_and_gradient(loss, views)
    with torch.inference_mode():
        assert torch.equal(loss(views).loss, expected)
    value, gradient = value_and_gradient(loss, views)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 8, 32, torch.float32)
    expected, expected_gradient = value_and_gradient(loss, views)
    with torch.autocast("cpu", dtype=dtype):
        value = loss(views).loss
    gradient = torch.stack(torch.autograd.grad(value, views))
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient)


@every_loss
def test_half_precision_embeddings_are_widened(name: str) -> None:
    count, loss = LOSSES[name]
    views = [z.detach().bfloat16().requires_grad_() for z in random_views(count, 8, 32)]
    expected = loss([z.detach().float() for z in views]).loss
    value, gradient = value_and_gradient(loss, views)
    assert torch.equal(value, expected)
    assert gradient.dtype == torch.bfloat16


@every_loss
def test_permuting_the_batch_changes_nothing(name: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 8, 5)
    order = torch.tensor([3, 1, 4, 0, 5, 7, 2, 6])
    kwargs: dict[str, Any] = {}
    if name.startswith("mixed"):
        # Row i of the permuted batch was row order[i], mixed with row perm[order[i]].
        position = torch.argsort(order)
        kwargs["perm"] = position[reversed_rows(8)[order]]
    shuffled = loss([z[order] for z in views], **kwargs).loss
    torch.testing.assert_close(shuffled, loss(views).loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "name", [name for name in LOSSES if not name.startswith("vicreg") and "pooled" not in name]
)
def test_affine_change_of_a_dimension_changes_nothing(name: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 8, 5)
    scale = torch.tensor([1.0, 2.0, 0.5, 30.0, 7.0], dtype=torch.float64)
    changed = [scale * z + v for v, z in enumerate(views)]
    torch.testing.assert_close(
        loss(changed, eps=0.0).loss, loss(views, eps=0.0).loss, rtol=1e-10, atol=0
    )


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.startswith("mixed")])
def test_symmetric_in_the_views(name: str) -> None:
    count, loss = LOSSES[name]
    views = random_views(count, 8, 5)
    torch.testing.assert_close(loss(views[::-1]).loss, loss(views).loss, rtol=1e-12, atol=0)


def test_mixed_is_symmetric_when_both_views_swap_their_shares() -> None:
    z_a, z_b, z_m = random_views(3, 8, 5)
    perm = torch.arange(8)
    swapped = mixed_barlow_twins_loss(z_b, z_a, z_m, perm=perm, mix=0.7).loss
    straight = mixed_barlow_twins_loss(z_a, z_b, z_m, perm=perm, mix=0.3).loss
    torch.testing.assert_close(swapped, straight, rtol=1e-12, atol=0)


@both_sides
@pytest.mark.parametrize("impl", ["gram", "dense"])
def test_two_views_over_all_pairs_are_plain_barlow_twins(n: int, d: int, impl: Any) -> None:
    views = random_views(2, n, d)
    expected = barlow_twins_loss(*views, lamb=0.02, impl=impl)
    result = multiview_barlow_twins_loss(views, lamb=0.02, impl=impl)
    for ours, plain in zip(result, expected):
        torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-14)


def test_all_pairs_is_the_mean_over_pairs() -> None:
    views = random_views(4, 8, 5)
    pairs = [(u, v) for i, u in enumerate(views) for v in views[i + 1 :]]
    plain = torch.stack([barlow_twins_loss(u, v).loss for u, v in pairs]).mean()
    torch.testing.assert_close(multiview_barlow_twins_loss(views).loss, plain)
    vicreg = torch.stack([multiview_vicreg_loss(pair).loss for pair in pairs]).mean()
    torch.testing.assert_close(multiview_vicreg_loss(views).loss, vicreg)


def test_vicreg_against_the_mean_of_the_others() -> None:
    views = random_views(4, 8, 5)
    terms = []
    for i, z in enumerate(views):
        others = torch.stack(views[:i] + views[i + 1 :]).mean(dim=0)
        terms.append(multiview_vicreg_loss([z, others]).loss)
    expected = torch.stack(terms).mean()
    torch.testing.assert_close(multiview_vicreg_loss(views, pairing="mean").loss, expected)


def test_mixing_per_sample() -> None:
    z_a, z_b, z_m = random_views(3, 8, 5)
    perm = reversed_rows(8)
    scalar = mixed_barlow_twins_loss(z_a, z_b, z_m, perm=perm, mix=0.3).loss
    same = mixed_barlow_twins_loss(
        z_a, z_b, z_m, perm=perm, mix=torch.full((8,), 0.3, dtype=torch.float64)
    ).loss
    torch.testing.assert_close(scalar, same)
    mix = torch.linspace(0, 1, 8, dtype=torch.float64)
    other = mixed_barlow_twins_loss(z_a, z_b, z_m, perm=perm, mix=mix).loss
    assert not torch.isclose(scalar, other)


def test_an_exactly_linear_network_has_a_residual_only_from_standardisation() -> None:
    z_a, z_b = random_views(2, 8, 5)
    mixture = 1.0 * z_a
    terms = mixed_barlow_twins_loss(z_a, z_b, mixture, perm=torch.arange(8), mix=1.0)
    assert terms.regularizer.item() == pytest.approx(0.0, abs=1e-20)


def print_growth(name: str) -> None:
    """How much memory, in MiB, a loss and its gradient take at 64 rows of 65536 dimensions."""

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux

    count, loss = LOSSES[name]
    views = [torch.randn(64, 65536, requires_grad=True) for _ in range(count)]
    torch.randn(64, 64) @ torch.randn(64, 64)
    start = peak()
    loss(views).loss.backward()
    print(peak() - start)


@every_loss
def test_no_dense_matrix_when_there_are_fewer_rows_than_dimensions(name: str) -> None:
    """A 65536 x 65536 float32 matrix would take 16 GiB; inputs are 16 MiB a view."""
    printed, errors = Started(print_growth, name).communicate(timeout=120)
    assert float(printed or "inf") < 1024, f"{printed.strip()} MiB {errors[-2000:]}"


def test_mixed_over_two_views_is_mixed_barlow_twins() -> None:
    z_a, z_b, z_m = random_views(3, 8, 5)
    mixing = {"perm": reversed_rows(8), "mix": 0.3, "lamb_reg": 4.0}
    many = multiview_mixed_barlow_twins_loss([z_a, z_b], z_m, **mixing)  # type: ignore[arg-type]
    two = mixed_barlow_twins_loss(z_a, z_b, z_m, **mixing)  # type: ignore[arg-type]
    torch.testing.assert_close(tuple(many), tuple(two), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("pairing", ["all", "mean"])
def test_mixed_over_views_without_regulariser_is_barlow_twins_over_views(pairing: Any) -> None:
    *views, z_m = random_views(4, 8, 5)
    mixed = multiview_mixed_barlow_twins_loss(
        views, z_m, perm=reversed_rows(8), mix=0.3, lamb_reg=0.0, pairing=pairing
    )
    plain = multiview_barlow_twins_loss(views, pairing=pairing)
    torch.testing.assert_close(mixed.loss, plain.loss, rtol=1e-12, atol=0)
