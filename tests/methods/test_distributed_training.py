"""Real processes under Lightning's DDP against one process with the whole batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ddp_training import DIMENSIONS, METHOD_CASES, STEPS, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[2, 4], ids=["2 processes", "4 processes"])
def distributed(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Any]:
    processes = request.param
    results = tmp_path_factory.mktemp("ddp") / "results.pt"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={processes}", "-m", "tests.ddp_training", str(results)),
        ],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return processes, torch.load(results)


@pytest.mark.parametrize("dim", DIMENSIONS.values(), ids=DIMENSIONS)
@pytest.mark.parametrize("method", METHOD_CASES)
def test_losses_and_weights_after_three_steps(
    method: str, dim: int, distributed: tuple[int, Any]
) -> None:
    processes, results = distributed
    expected = train(method, dim, rank=0, world_size=1, processes=processes)
    result = results[method, dim]
    assert len(result["losses"]) == STEPS
    assert result["losses"] == pytest.approx(expected["losses"], rel=1e-10)
    for name, weight in expected["weights"].items():
        difference = (result["weights"][name] - weight).norm()
        assert difference <= 1e-10 * weight.norm(), name
