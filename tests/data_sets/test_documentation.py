"""The table of docs/data.md is the code's: ``python -m tests.data_sets.test_documentation``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from mixbt_plugin.data import PROPERTIES

DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def rows() -> list[str]:
    """Classes, size and statistics of each data set."""
    return [
        f"| `{name}` | {known.num_classes or 'by folder'} | "
        f"{known.size if known.fixed_size else '–'} | {shown(known.mean)} | {shown(known.std)} |"
        for name, known in PROPERTIES.items()
    ]


def shown(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}".lstrip("0") for value in values)


@pytest.mark.parametrize("row", rows())
def test_row_is_in_the_documentation(row: str) -> None:
    assert row in DOCS.read_text()


if __name__ == "__main__":
    print("\n".join(rows()))
