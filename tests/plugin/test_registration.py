"""Registration into the host, and how Hydra finds it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from mixbt_plugin.host import METHODS, BaseMethod
from mixbt_plugin.registry import list_methods, register

register()

HYDRA_APP = """
import sys
import hydra

@hydra.main(version_base="1.2", config_path=None)
def main(cfg):
    heavy = sorted({"torch", "lightning", "mixbt_plugin", "solo"} & set(sys.modules))
    print("HEAVY", heavy)
    print("FOUND", "hydra_plugins.mixbt_plugin.registration" in sys.modules)

main()
"""
FAKE_SOLO_APP = (
    """
import sys, types
sys.modules["solo.methods"] = types.ModuleType("solo.methods")
"""
    + HYDRA_APP
)


def run_app(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    app = folder / "app.py"
    app.write_text(code)
    return subprocess.run(
        [sys.executable, str(app), "hydra.run.dir=.", "hydra.output_subdir=null"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_fixed_names_and_classes() -> None:
    assert {info.name: METHODS[info.name].__name__ for info in list_methods()} == {
        "mixbt": "MixedBarlowTwins",
        "multiaug_barlow_twins": "MultiAugBarlowTwins",
        "multiaug_mixbt": "MultiAugMixedBarlowTwins",
        "multiaug_vicreg": "MultiAugVICReg",
        "hsic_ssl": "HSICSSL",
    }
    assert all(issubclass(METHODS[info.name], BaseMethod) for info in list_methods())


def test_baselines_are_the_hosts_where_it_has_them(request: pytest.FixtureRequest) -> None:
    from mixbt_plugin.host import HOST

    expected = "mixbt_plugin.methods" if HOST.is_embedded else "solo.methods"
    for name in ("barlow_twins", "vicreg"):
        assert METHODS[name].__module__.startswith(expected)


def test_registration_is_idempotent_and_silent() -> None:
    before = dict(METHODS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register()
    assert before == METHODS


def test_a_taken_name_is_left_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        pass

    monkeypatch.setitem(METHODS, "mixbt", Other)
    with pytest.warns(UserWarning, match="method 'mixbt' is already taken by .*Other"):
        register()
    assert METHODS["mixbt"] is Other


def test_other_hydra_apps_import_nothing_heavy(tmp_path: Path) -> None:
    done = run_app(HYDRA_APP, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "FOUND True" in done.stdout
    assert "HEAVY []" in done.stdout


def test_a_failing_registration_breaks_no_app(tmp_path: Path) -> None:
    done = run_app(FAKE_SOLO_APP, tmp_path, MIXBT_HOST="nonsense")
    assert done.returncode == 0, done.stderr
    assert "FOUND True" in done.stdout
    assert "mixbt_plugin could not register its methods" in done.stderr
    assert "mixbt-doctor" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_hydra_finds_an_installed_plugin(editable: bool, tmp_path: Path, monkeypatch: Any) -> None:
    root = Path(__file__).parents[2]
    venv = tmp_path / "venv"
    # Hydra itself comes from this environment; what is installed here is the plugin alone.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    import hydra

    (site / "outer.pth").write_text(str(Path(hydra.__file__).parents[1]))
    monkeypatch.delenv("PYTHONPATH")
    python = str(venv / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    source = tmp_path / "source"
    copy_source(root, source)
    subprocess.run([*install, *(["-e"] if editable else []), str(source)], check=True)
    app = tmp_path / "app.py"
    app.write_text(HYDRA_APP)
    done = subprocess.run(
        [python, str(app), "hydra.run.dir=.", "hydra.output_subdir=null"],
        capture_output=True,
        text=True,
    )
    assert "FOUND True" in done.stdout, done.stdout + done.stderr
    listed = subprocess.run(
        [python, "-c", "from mixbt_plugin.apps.command import config_root as r; print(r())"],
        capture_output=True,
        text=True,
    )
    configs = Path(listed.stdout.strip())
    assert configs.is_relative_to(source if editable else site)
    assert (configs / "pretrain" / "cifar" / "mixbt.yaml").is_file()


def copy_source(root: Path, target: Path) -> None:
    import shutil

    for name in ("mixbt_plugin", "hydra_plugins", "configs"):
        shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(root / name, target / name)
