"""mixbt-doctor."""

from __future__ import annotations

import pytest

from mixbt_plugin.apps import commands, doctor
from mixbt_plugin.host import HOST, METHODS
from mixbt_plugin.registry import list_methods, register


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main() == 0
    printed = capsys.readouterr().out
    assert f"host: {HOST}" in printed
    for info in list_methods():
        assert info.name in printed
    assert "hydra: finds the plugin" in printed
    assert printed.endswith("all is well\n")


def test_a_taken_name_is_a_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    monkeypatch.setitem(METHODS, "mixbt", int)
    with pytest.warns(UserWarning, match="already taken"):
        assert doctor.main() == 1
    assert "PROBLEM: the name 'mixbt' is taken by <class 'int'>" in capsys.readouterr().out


def test_a_missing_package_is_named_with_its_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("torch", "no-such-package"))
    monkeypatch.setattr("sys.argv", ["mixbt-doctor"])
    assert commands.doctor() == 1
    assert "no-such-package is missing: pip install no-such-package" in capsys.readouterr().out


def test_an_unusable_host_is_a_problem(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXBT_HOST", "nonsense")
    assert doctor.main() == 1
    assert "MIXBT_HOST='nonsense': expected 'embedded' or 'solo-learn'" in capsys.readouterr().out
