"""The benchmarks' own measuring."""

from __future__ import annotations

import torch

from benchmarks.interleaved import interleave, machine, peak_memory, ratio, table


def test_alternatives_take_turns_and_the_first_round_is_not_counted() -> None:
    calls: list[str] = []
    times = interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_warm_alternatives_are_called_twice_and_timed_once() -> None:
    calls: list[str] = []
    alternatives = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = interleave(alternatives, rounds=1, warm=True)
    assert calls == ["a", "a", "b", "b"] * 2
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 1, "b": 1}


def test_ratio_is_taken_round_by_round() -> None:
    assert ratio([1.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == 2.0


def test_peak_memory_counts_what_is_held_at_once() -> None:
    x = torch.zeros(256, 1024)
    mib = peak_memory(lambda: ((x + 1) * 2).sum()) / 2**20
    assert 2.0 <= mib < 2.1


def test_table_is_markdown() -> None:
    assert table(["N", "ms"], [[64, "1.5"]]).splitlines()[1:] == ["| ---: | ---: |", "| 64 | 1.5 |"]


def test_machine_says_what_is_missing() -> None:
    assert "no-such-package not installed" in machine("no-such-package")
