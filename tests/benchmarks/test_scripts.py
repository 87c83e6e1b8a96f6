"""The benchmark scripts run."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import (
    communication,
    gradient_audit,
    loss,
    loss_against,
    loss_views,
    memory,
    throughput,
)
from benchmarks.loss import OBJECTIVES
from mixbt_plugin.losses import barlow_twins_loss


def test_loss_has_a_row_for_each_objective_and_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = ["--n", "8", "--rounds", "1", "--seconds", "0", "--save", str(tmp_path / "loss.jsonl")]
    loss.main([*few, "--d", "16"])
    loss.main([*few, "--d", "16", "4"])
    printed = capsys.readouterr().out
    for name in OBJECTIVES:
        assert printed.count(f"\n{name} 8 16 ") == 1
        assert f"| {name} | 8 | 16 |" in printed
        assert f"| {name} | 8 | 4 |" in printed


def test_loss_of_more_views(capsys: pytest.CaptureFixture[str]) -> None:
    loss_views.main(["--n", "8", "--d", "16", "--rounds", "1", "--seconds", "0"])
    assert capsys.readouterr().out.count("| 8 | 16 |") == 4


@pytest.mark.slow
def test_communication_counts_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    communication.main(["--objectives", "barlow_twins", "--n", "8", "--d", "4096"])
    row = capsys.readouterr().out.splitlines()[-1].split("|")
    # The views go out and their gradients come back: 2 · 2 · 8 · 4096 float32, 0.5 MiB.
    assert 0.5 <= float(row[4]) < 0.52
    assert float(row[-2]) == 64.0


@pytest.mark.slow
def test_the_gradient_of_two_processes_is_audited(capsys: pytest.CaptureFixture[str]) -> None:
    gradient_audit.main()
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "ddp=" in line]
    lengths = {row[1].strip().rpartition("=")[2]: float(row[3]) for row in rows}
    assert lengths["exact"] == 1.0
    assert lengths["legacy"] < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("way", ["barlow_twins, data.augment=image", "mixbt, data.augment=batch"])
def test_a_training_is_timed_from_files_to_its_end(way: str, tmp_path: Path) -> None:
    throughput.write_images(tmp_path, 64)
    small = ["--batch", "32", "--dim", "16", "--workers", "0", "--backbone", "narrow_resnet10"]
    args = throughput.parsed(small)
    assert throughput.seconds(throughput.alternatives(args, tmp_path)[way], epochs=1) > 0


@pytest.mark.slow
def test_memory_has_a_row_for_each_number_of_processes(capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(["--images", "600", "--files", "600", "--workers", "1", "2"])
    rows = [row.split("|")[1:-1] for row in capsys.readouterr().out.splitlines()[-4:]]
    assert [int(row[1]) for row in rows] == [1, 2, 1, 2]
    # Each has memory of its own, and far less than the interpreter and the libraries take.
    assert all(1 <= int(row[-1]) < 200 for row in rows)


def test_loss_against_a_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    here = Path(__file__).parents[2]
    loss_against.main([str(here), "--n", "8", "--d", "16", "--rounds", "1"])
    assert "geometric mean" in capsys.readouterr().out
    assert loss_against.losses_of(here).barlow_twins_loss is not barlow_twins_loss
