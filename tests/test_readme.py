"""The tables of methods and keys say what the code says: ``python -m tests.test_readme``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mixbt_plugin.registry import list_methods

ROOT = Path(__file__).parents[1]


def method_rows() -> list[str]:
    return [
        f"| `{info.name}` | `{info.method.__name__}` | {info.views} | {info.summary} | "
        f"[{info.paper}](https://arxiv.org/abs/{info.paper}) |"
        for info in list_methods()
    ]


def key_rows() -> list[str]:
    """One row for each key and default, with the methods that have it."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for info in list_methods():
        for name, field in info.method.Settings.model_fields.items():
            default = "required" if field.is_required() else f"`{shown(field.default)}`"
            row = (name, default, field.description, field.json_schema_extra["source"])
            rows.setdefault(row, []).append(info.name)
    everyone = [info.name for info in list_methods()]
    return [
        f"| `{name}` | {'all' if methods == everyone else ', '.join(methods)} | {default} | "
        f"{text} | {source} |"
        for (name, default, text, source), methods in rows.items()
    ]


def shown(default: Any) -> str:
    return "null" if default is None else str(default)


@pytest.mark.parametrize("row", method_rows())
def test_method_is_in_the_readme(row: str) -> None:
    assert row in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("row", key_rows())
def test_key_is_on_its_page(row: str) -> None:
    assert row in (ROOT / "docs" / "methods" / "keys.md").read_text()


if __name__ == "__main__":
    print("\n".join([*method_rows(), "", *key_rows()]))
