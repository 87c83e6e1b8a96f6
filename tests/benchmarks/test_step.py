from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import step


@pytest.fixture(autouse=True)
def levels_of_logging() -> Iterator[None]:
    """The benchmark quietens loggers for its process, which is here that of other tests too."""
    loggers = logging.getLogger(), logging.getLogger("lightning.pytorch")
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels):
        logger.setLevel(level)


@pytest.mark.slow
def test_steps_of_two_methods_and_of_more_views(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = "--rounds 1 --steps 1 --batch 4 --backbone narrow_resnet10 --dimensions 8 --views 2 4"
    methods = ["--methods", "barlow_twins", "multiaug_barlow_twins"]
    monkeypatch.setattr(sys, "argv", ["step", *words.split(), *methods])
    step.main()
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "views" in line]
    assert [(row[0], row[-1]) for row in rows] == [
        ("| barlow_twins, 2 views", "barlow_twins, 2 views |"),
        ("| multiaug_barlow_twins, 2 views", "barlow_twins, 2 views |"),
        ("| multiaug_barlow_twins, 4 views", "multiaug_barlow_twins, 2 views |"),
    ]
    assert rows[0][2] == rows[0][4] == "1.00"
    assert all(float(row[3]) >= float(row[1]) > 0 for row in rows)
