"""Real processes under Lightning's DDP against one process with the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ddp_training import DIMENSIONS, METHOD_CASES, PRECISIONS, train, train_all
from tests.processes import saved_by_ranks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[2, 4], ids=["2 processes", "4 processes"])
def distributed(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Any]:
    return request.param, saved_by_ranks(train_all, tmp_path_factory.mktemp("ddp"), request.param)


def relative_difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", DIMENSIONS.values(), ids=DIMENSIONS)
@pytest.mark.parametrize("method", METHOD_CASES)
def test_losses_gradient_and_weights(
    method: str, dim: int, precision: str, distributed: tuple[int, Any]
) -> None:
    processes, results = distributed
    allowed, steps = PRECISIONS[precision]
    expected = train(method, dim, 0, world_size=1, processes=processes, precision=precision)
    result = results[0][method, dim, precision]
    assert len(result["losses"]) == steps
    assert result["losses"] == pytest.approx(expected["losses"], rel=allowed)
    assert relative_difference(result["gradient"], expected["gradient"]) < allowed
    assert result["logged"].keys() == expected["logged"].keys()
    for other in results:
        for name, values in other[method, dim, precision]["logged"].items():
            assert values == pytest.approx(expected["logged"][name], rel=allowed), name
    for name, weight in expected["weights"].items():
        # A bias that began at 0 is one step's rounding alone: alone it is looked at in float64.
        tolerance = allowed if precision == "64-true" else 3 * allowed
        assert relative_difference(result["weights"][name], weight) < tolerance, name


@pytest.mark.parametrize("method", METHOD_CASES)
def test_local_losses_are_those_of_single_processes(
    method: str, distributed: tuple[int, Any]
) -> None:
    """Of the first step: after it the processes' weights are no longer those of each alone."""
    processes, results = distributed
    alone = [train(method, 40, rank, 1, processes, local=True) for rank in range(processes)]
    gradient = torch.stack([result["gradient"] for result in alone]).mean(dim=0)
    for result, expected in zip(results, alone):
        found = result["local", method]
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-10)
        assert relative_difference(found["gradient"], gradient) < 1e-10
        for name, values in found["logged"].items():
            mean = sum(other["logged"][name][0] for other in alone) / processes
            assert values[0] == pytest.approx(mean, rel=1e-10), name
    assert len({result["local", method]["losses"][0] for result in results}) == processes


def test_a_step_that_is_bad_on_one_process_is_skipped_on_all(distributed: tuple[int, Any]) -> None:
    first, *others = [result["poisoned"] for result in distributed[1]]
    assert first["skipped"] == 1
    for other in others:
        assert other["skipped"] == 1
        for name, weight in first["weights"].items():
            assert weight.isfinite().all()
            assert torch.equal(weight, other["weights"][name])
