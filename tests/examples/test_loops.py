"""The losses in loops of others: the examples learn, and lightly's losses have our values."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from mixbt_plugin.losses import BarlowTwinsLoss, MultiViewVICRegLoss

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed_losses(example: str, capsys: pytest.CaptureFixture[str]) -> list[float]:
    with torch.random.fork_rng():
        runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    return [float(loss) for loss in re.findall(r"^epoch .* (\S+)$", capsys.readouterr().out, re.M)]


def test_a_plain_loop_learns(capsys: pytest.CaptureFixture[str]) -> None:
    first, last = printed_losses("plain_loop.py", capsys)
    assert last < first


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_module_learns(capsys: pytest.CaptureFixture[str]) -> None:
    first, last = printed_losses("lightning_module.py", capsys)
    assert last < first


@pytest.mark.filterwarnings("ignore")
def test_lightlys_parts_learn_by_our_loss(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightly")
    first, *_, last = printed_losses("lightly_loop.py", capsys)
    assert last < first


def test_our_losses_are_lightlys() -> None:
    theirs = pytest.importorskip("lightly.loss")
    z_a, z_b = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        BarlowTwinsLoss(lamb=0.005)(z_a, z_b), theirs.BarlowTwinsLoss(lambda_param=0.005)(z_a, z_b)
    )
    torch.testing.assert_close(
        MultiViewVICRegLoss(sim_loss_weight=10.0, var_loss_weight=15.0, cov_loss_weight=2.0)(
            [z_a, z_b]
        ),
        theirs.VICRegLoss(lambda_param=10.0, mu_param=30.0, nu_param=2.0)(z_a, z_b),
    )
