"""Methods of other packages: by entry point, without a file of ours touched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mixbt_plugin.registry import list_methods, register_method

DIST_INFO = "their_methods-1.0.dist-info"


@pytest.fixture
def their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with an entry point for methods; its module is still to be written."""
    folder = tmp_path / "site"
    (folder / DIST_INFO).mkdir(parents=True)
    (folder / DIST_INFO / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-methods\nVersion: 1.0\n"
    )
    (folder / DIST_INFO / "entry_points.txt").write_text(
        "[mixbt_plugin.methods]\ntheirs = their_methods\n"
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "their_methods", raising=False)
    return folder


def test_a_name_that_another_class_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'mixbt' is taken by mixbt_plugin\.methods\..*Mixed"):
        register_method("mixbt")(type("Other", (), {}))


def test_a_package_that_does_not_import_is_left_out_with_its_reason(their_package: Path) -> None:
    (their_package / "their_methods.py").write_text("import a_module_that_is_not_there\n")
    with pytest.warns(UserWarning, match=r"methods of their_methods are left out \(ModuleNotFou"):
        names = [info.name for info in list_methods()]
    assert "mixbt" in names


def test_views_are_what_the_class_asks_for() -> None:
    views = {info.name: (info.views, info.method.min_views) for info in list_methods()}
    assert views["mixbt"] == ("2", 2)
    assert views["multiaug_barlow_twins"] == (">= 2", 2)
