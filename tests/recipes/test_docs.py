"""The tables of docs/recipes.md are what the configs say: ``python -m tests.recipes.test_docs``."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from tests.recipes.shipped import CONFIGS, header

DOCS = Path(__file__).parents[2] / "docs" / "recipes.md"


def row(config: str) -> str:
    fields = header(config)
    name = config.split("/")[-1]
    cells = [fields[key].rstrip(".") for key in ("What", "Source", "Reported", "Run here")]
    if "Variants" in fields:
        cells[0] += f"; variants: {fields['Variants']}"
    # An upright stroke would end the cell.
    text = " | ".join(cell.replace("|", "\\|") for cell in cells)
    return f"| [{name}](../configs/{config}.yaml) | {text} |"


def table(folder: str, configs: list[str]) -> str:
    head = (
        f"### `{folder}`\n\n| config | what | source | reported | run here |\n|---|---|---|---|---|"
    )
    return "\n".join([head, *map(row, configs)])


def folder_of(config: str) -> str:
    return config.rpartition("/")[0]


def tables(family: str) -> str:
    chosen = [config for config in CONFIGS if config.startswith(f"{family}/")]
    return "\n\n".join(table(folder, list(rows)) for folder, rows in groupby(chosen, folder_of))


@pytest.mark.parametrize("family", ["pretrain", "parity"])
def test_tables_are_the_configs(family: str) -> None:
    assert tables(family) in DOCS.read_text()


def test_no_row_is_left_of_a_config_that_is_gone() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| [")]
    assert sorted(rows) == sorted(map(row, CONFIGS))


if __name__ == "__main__":
    print(tables("pretrain"), tables("parity"), sep="\n\n")
