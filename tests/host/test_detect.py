"""Which host is taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mixbt_plugin.host.detect import Host, HostError, detect


def fake_solo(folder: Path, *, hydra: bool) -> None:
    (folder / "solo" / "methods").mkdir(parents=True)
    (folder / "solo" / "args").mkdir()
    (folder / "solo" / "__init__.py").touch()
    (folder / "solo" / "methods" / "base.py").touch()
    (folder / "setup.py").write_text('setup(version="9.8.7")')
    if hydra:
        (folder / "solo" / "args" / "pretrain.py").touch()


def detected(folder: Path, **environment: str) -> str:
    code = "from mixbt_plugin.host.detect import detect; h = detect(); print(h); print(h.note)"
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "MIXBT_HOST": "", **environment, "PYTHONPATH": path},
    )
    return done.stdout + done.stderr


def test_a_checkout_is_taken(tmp_path: Path) -> None:
    fake_solo(tmp_path, hydra=True)
    assert f"solo-learn 9.8.7 at {tmp_path / 'solo'}\nNone" in detected(tmp_path)


def test_a_release_without_hydra_is_named_and_not_used(tmp_path: Path) -> None:
    fake_solo(tmp_path, hydra=False)
    printed = detected(tmp_path)
    assert printed.startswith("embedded")
    assert "solo-learn 9.8.7" in printed
    assert "has no Hydra configuration" in printed


def test_a_release_without_hydra_cannot_be_forced(tmp_path: Path) -> None:
    fake_solo(tmp_path, hydra=False)
    assert "HostError: solo-learn 9.8.7" in detected(tmp_path, MIXBT_HOST="solo-learn")


def test_another_package_called_solo_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "solo").mkdir()
    (tmp_path / "solo" / "__init__.py").touch()
    printed = detected(tmp_path)
    assert printed.startswith("embedded")
    assert printed.endswith("None\n")


def test_the_stand_in_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXBT_HOST", "embedded")
    assert detect().is_embedded


def test_an_unknown_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXBT_HOST", "solo")
    with pytest.raises(HostError, match="expected 'embedded' or 'solo-learn'"):
        detect()


def test_a_host_says_where_it_is() -> None:
    assert str(Host("solo-learn", "1.0.6", Path("/there"))) == "solo-learn 1.0.6 at /there"


def test_a_checkout_that_does_not_import_says_what_it_needs(tmp_path: Path) -> None:
    fake_solo(tmp_path, hydra=True)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-c", "from mixbt_plugin.host import BaseMethod"],
        capture_output=True,
        text=True,
        env={**os.environ, "MIXBT_HOST": "", "PYTHONPATH": path},
    )
    assert "HostError: solo-learn was found but does not import" in done.stderr
    assert "torchmetrics<0.12" in done.stderr
