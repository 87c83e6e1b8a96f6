"""Real gloo processes against one process with the whole batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from mixbt_plugin.functional import mean_over_processes
from tests.embeddings import LOSSES, random_views, reversed_rows, value_and_gradient
from tests.processes import saved_by_ranks

WORLD_SIZE = 2


def block_permutation(n: int) -> torch.Tensor:
    """Reverses the rows inside each process's half."""
    half = n // WORLD_SIZE
    return torch.cat([reversed_rows(half) + rank * half for rank in range(WORLD_SIZE)])


def share(rank: int, count: int, n: int, d: int) -> list[torch.Tensor]:
    """A process's rows of the views."""
    return [z.detach().chunk(WORLD_SIZE)[rank].requires_grad_() for z in random_views(count, n, d)]


def uneven_share(rank: int, count: int) -> list[torch.Tensor]:
    return [z.detach()[: 8 - rank].requires_grad_() for z in random_views(count, 8, 20)]


def twice(loss: Any, views: list[torch.Tensor]) -> None:
    gradients = torch.autograd.grad(loss(views).loss, views, create_graph=True)
    torch.stack([g.square().sum() for g in gradients]).sum().backward()


def run_rank(rank: int, port: int, folder: str, world_size: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    results: dict[Any, Any] = {}
    for name, (count, loss) in LOSSES.items():
        for n, d in ((8, 20), (24, 5)):
            views = share(rank, count, n, d)
            for impl in ("gram", "dense"):
                for ddp in ("exact", "legacy", "legacy-sync", "local"):
                    results[name, n, impl, ddp] = value_and_gradient(
                        loss, views, impl=impl, ddp=ddp
                    )
    for name, (count, loss) in LOSSES.items():
        uneven = uneven_share(rank, count)
        with pytest.raises(ValueError, match="the processes hold 8, 7 rows: expected as many on"):
            value_and_gradient(loss, uneven)
        results["refused", name] = True
        results["uneven", name] = value_and_gradient(loss, uneven, ddp="local")
    groups = [dist.new_group([member]) for member in range(WORLD_SIZE)]
    for name, (count, loss) in LOSSES.items():
        # One dimension, which the first process has, and the second none.
        for impl in ("gram", "dense"):
            views = share(rank, count, 8, 1)
            results[name, "one dimension", impl] = value_and_gradient(loss, views, impl=impl)
        views = share(rank, count, 8, 20)
        results["group", name] = value_and_gradient(loss, views, group=groups[rank])
        with pytest.raises(ValueError, match="group: this process is not in it"):
            loss(views, group=groups[1 - rank])
        wrong = [views[0], *(z[:, : 20 - rank] for z in views[1:])]
        with pytest.raises(ValueError, match=r"has shape \(4, 19\) but .* \(4, 20\)"):
            loss(wrong)
        with pytest.raises(ValueError, match="the processes hold embeddings of 20, 19 dimensions"):
            loss([z[:, : 20 - rank] for z in views])
        if "mixed" in name:
            without_mixture = views if rank == 0 else [*views[:-1], None]
            with pytest.raises((TypeError, ValueError), match="z_m: expected a tensor"):
                loss(without_mixture)
        if name.startswith(("multiview", "vicreg")):
            with pytest.raises(ValueError, match="views: 1 given; expected at least 2"):
                loss(views if rank == 0 else views[:1])
        with pytest.raises(RuntimeError, match="once_differentiable"):
            twice(loss, views)
    results["mean"] = mean_over_processes(torch.tensor([float(rank), 2.0], requires_grad=True))
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    return saved_by_ranks(run_rank, tmp_path_factory.mktemp("ranks"), WORLD_SIZE)


def test_mean_over_processes(results: list[dict[Any, Any]]) -> None:
    for result in results:
        assert result["mean"].tolist() == [0.5, 2.0]
        assert not result["mean"].requires_grad


def whole_batch(name: str, n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    count, loss = LOSSES[name]
    kwargs = {"perm": block_permutation(n)} if name.startswith("mixed") else {}
    return value_and_gradient(loss, random_views(count, n, d), **kwargs)


@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize("n,d", [(8, 20), (24, 5)])
@pytest.mark.parametrize("name", LOSSES)
def test_exact_is_one_process_with_the_whole_batch(
    name: str, n: int, d: int, impl: str, results: list[dict[Any, Any]]
) -> None:
    value, gradient = whole_batch(name, n, d)
    ranks = [result[name, n, impl, "exact"] for result in results]
    # DistributedDataParallel averages: each process's rows count 1 / world_size.
    averaged = torch.cat([rank_gradient for _, rank_gradient in ranks], dim=1) / WORLD_SIZE
    for rank_value, _ in ranks:
        torch.testing.assert_close(rank_value, value, rtol=1e-12, atol=0)
    assert (averaged - gradient).norm() <= 1e-10 * gradient.norm()


@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize("name", LOSSES)
def test_more_processes_than_dimensions(
    name: str, impl: str, results: list[dict[Any, Any]]
) -> None:
    value, gradient = whole_batch(name, 8, 1)
    ranks = [result[name, "one dimension", impl] for result in results]
    averaged = torch.cat([rank_gradient for _, rank_gradient in ranks], dim=1) / WORLD_SIZE
    for rank_value, _ in ranks:
        torch.testing.assert_close(rank_value, value, rtol=1e-12, atol=1e-15)
    assert (averaged - gradient).norm() <= 1e-10 * gradient.norm() + 1e-15


@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize("n,d", [(8, 20), (24, 5)])
@pytest.mark.parametrize("name", LOSSES)
def test_legacy_sync_is_exact_without_the_factor(
    name: str, n: int, d: int, impl: str, results: list[dict[Any, Any]]
) -> None:
    value, gradient = whole_batch(name, n, d)
    ranks = [result[name, n, impl, "legacy-sync"] for result in results]
    rows = torch.cat([rank_gradient for _, rank_gradient in ranks], dim=1)
    for rank_value, _ in ranks:
        torch.testing.assert_close(rank_value, value, rtol=1e-12, atol=0)
    # Not divided by the processes' number: the average leaves 1 / world_size of it.
    assert (rows - gradient).norm() <= 1e-10 * gradient.norm()


def barlow_twins_official(rank_rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """facebookresearch/barlowtwins main.py:205-216, each process's C in turn with a gradient.

    SyncBatchNorm passes gradients on between the processes; the all_reduce of C does not.
    """
    normalized = [torch.nn.functional.batch_norm(z, None, None, training=True) for z in rank_rows]
    a, b = (z.chunk(WORLD_SIZE) for z in normalized)
    parts = [x.T @ y / len(normalized[0]) for x, y in zip(a, b)]
    d = len(parts[0])
    weight = 0.0051 + (1 - 0.0051) * torch.eye(d, dtype=torch.float64)
    losses = []
    for own in range(WORLD_SIZE):
        c = sum(part if rank == own else part.detach() for rank, part in enumerate(parts))
        losses.append((weight * (c - torch.eye(d, dtype=torch.float64)).square()).sum())
    gradient = torch.autograd.grad(torch.stack(losses).sum(), rank_rows)
    return losses[0].detach(), torch.stack(gradient)


def test_legacy_sync_is_barlow_twins_official_way(results: list[dict[Any, Any]]) -> None:
    value, gradient = barlow_twins_official(random_views(2, 8, 20))
    ranks = [result["barlow_twins", 8, "gram", "legacy-sync"] for result in results]
    rows = torch.cat([rank_gradient for _, rank_gradient in ranks], dim=1)
    torch.testing.assert_close(ranks[0][0], value, rtol=1e-10, atol=0)
    assert (rows - gradient).norm() <= 1e-10 * gradient.norm()


@pytest.mark.parametrize("name", LOSSES)
def test_a_group_of_one_is_that_process_alone(name: str, results: list[dict[Any, Any]]) -> None:
    count, loss = LOSSES[name]
    for rank, result in enumerate(results):
        expected = value_and_gradient(loss, share(rank, count, 8, 20))
        torch.testing.assert_close(result["group", name], expected)


def solo_learn_way(name: str, n: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Local standardisation; C averaged by an all_reduce without gradient: its value, and the
    gradient of one process's rows through the averaged C."""
    views = random_views(2, n, d)
    halves = [z.chunk(WORLD_SIZE) for z in views]
    c = torch.stack(
        [
            torch.nn.functional.batch_norm(halves[0][rank], None, None, training=True).T
            @ torch.nn.functional.batch_norm(halves[1][rank], None, None, training=True)
            / (n // WORLD_SIZE)
            for rank in range(WORLD_SIZE)
        ]
    ).mean(dim=0)
    target = torch.eye(d, dtype=torch.float64) + (torch.eye(d) - 1) * (name == "hsic_ssl")
    lamb = 0.01 if name == "hsic_ssl" else 0.0051
    weight = lamb + (1 - lamb) * torch.eye(d, dtype=torch.float64)
    loss = (weight * (c - target).square()).sum()
    return loss.detach(), torch.stack(torch.autograd.grad(loss, views))


@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize("n,d", [(8, 20), (24, 5)])
@pytest.mark.parametrize("name", ["barlow_twins", "hsic_ssl"])
def test_legacy_is_solo_learns_way(
    name: str, n: int, d: int, impl: str, results: list[dict[Any, Any]]
) -> None:
    value, gradient = solo_learn_way(name, n, d)
    ranks = [result[name, n, impl, "legacy"] for result in results]
    rows = torch.cat([rank_gradient for _, rank_gradient in ranks], dim=1)
    for rank_value, _ in ranks:
        torch.testing.assert_close(rank_value, value, rtol=1e-10, atol=0)
    assert (rows - gradient).norm() <= 1e-6 * gradient.norm()


@pytest.mark.parametrize("impl", ["gram", "dense"])
@pytest.mark.parametrize("n,d", [(8, 20), (24, 5)])
@pytest.mark.parametrize("name", LOSSES)
def test_local_is_each_process_alone(
    name: str, n: int, d: int, impl: str, results: list[dict[Any, Any]]
) -> None:
    count, loss = LOSSES[name]
    for rank, result in enumerate(results):
        expected = value_and_gradient(loss, share(rank, count, n, d), impl=impl)
        torch.testing.assert_close(result[name, n, impl, "local"], expected)
    assert results[0][name, n, impl, "local"][0] != results[1][name, n, impl, "local"][0]


@pytest.mark.parametrize("name", LOSSES)
def test_local_takes_uneven_batches(name: str, results: list[dict[Any, Any]]) -> None:
    count, loss = LOSSES[name]
    for rank, result in enumerate(results):
        expected = value_and_gradient(loss, uneven_share(rank, count))
        torch.testing.assert_close(result["uneven", name], expected)


@pytest.mark.parametrize("name", ["vicreg_all", "vicreg_mean"])
def test_legacy_vicreg_logs_the_local_invariance(name: str, results: list[dict[Any, Any]]) -> None:
    value, gradient = whole_batch(name, 8, 20)
    ranks = [result[name, 8, "gram", "legacy"] for result in results]
    averaged = torch.cat([rank_gradient for _, rank_gradient in ranks], dim=1) / WORLD_SIZE
    assert ranks[0][0] != ranks[1][0]
    torch.testing.assert_close(torch.stack([v for v, _ in ranks]).mean(), value)
    assert (averaged - gradient).norm() <= 1e-10 * gradient.norm()


@pytest.mark.parametrize("name", LOSSES)
def test_uneven_batches_are_refused_on_every_process(
    name: str, results: list[dict[Any, Any]]
) -> None:
    assert all(of_rank["refused", name] for of_rank in results)
