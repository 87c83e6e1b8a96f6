"""How the commands find their configs."""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from mixbt_plugin.apps.overrides import with_quoted_paths

PACKAGE = Path(__file__).parents[1]
PATH_FLAGS = ("--config-path", "-cp")
NAME_FLAGS = ("--config-name", "-cn")
NO_CONFIG_FLAGS = ("--help", "-h", "--hydra-help", "--version", "--info", "-i")


def config_root() -> Path:
    """Folder of the shipped configs: in the package of a wheel, beside it in a checkout."""
    shipped = PACKAGE / "configs"
    return shipped if shipped.is_dir() else PACKAGE.parent / "configs"


def run_command(
    name: str,
    default_config: str | None = None,
    more_groups: tuple[str, ...] = (),
) -> None:
    """Runs ``mixbt_plugin.apps.<name>.task`` as a Hydra application.

    ``--config-path`` is a folder here, or one of the shipped ones, such as ``pretrain/cifar``.
    Without it and with ``--config-name`` alone, the shipped folder of the command is searched.
    Paths may hold what Hydra's grammar would stumble over (`with_quoted_paths`).

    Args:
        name: of the module, and of the command's folder of shipped configs.
        default_config: name of the config that is taken where none is given.
        more_groups: further folders of configs of this command.
    """
    # In place: Lightning starts the other processes with the same words.
    sys.argv[1:] = with_quoted_paths(sys.argv[1:])
    argv = sys.argv
    for position, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag in PATH_FLAGS and equals:
            argv[position] = f"{flag}={find_folder(value, name)}"
        elif flag in PATH_FLAGS and position + 1 < len(argv):
            argv[position + 1] = str(find_folder(argv[position + 1], name))
    flags = {word.partition("=")[0] for word in argv[1:]}
    if default_config is None and flags.isdisjoint({*NAME_FLAGS, *NO_CONFIG_FLAGS}):
        known = [line for each in (name, *more_groups) for line in _shipped(each)]
        shipped = "\n".join(f"  {line}" for line in known)
        sys.exit(f"Which config? For instance one of\n{shipped}")

    module = f"mixbt_plugin.apps.{name}"

    def task(cfg: DictConfig) -> Any:
        return import_module(module).task(cfg)

    # What Hydra calls the application.
    task.__module__ = module
    hydra.main(
        version_base="1.2", config_path=str(config_root() / name), config_name=default_config
    )(task)()


def find_folder(value: str, group: str) -> Path:
    """The folder that ``--config-path`` means: one here, or a shipped one."""
    root = config_root()
    for folder in (Path(value), root / value, root / group / value):
        if folder.is_dir():
            return folder.resolve()
    sys.exit(f"--config-path {value}: no such folder, here or among the shipped ones in {root}.")


def shipped_configs(group: str) -> list[Path]:
    """The shipped configs of a command that can be started, without the parts that they share."""
    return [
        path
        for path in sorted((config_root() / group).rglob("*.yaml"))
        if path.stem != "base" and path.parent.name != "augmentations"
    ]


def _shipped(group: str) -> list[str]:
    lines = []
    for folder, paths in groupby(shipped_configs(group), key=lambda path: path.parent):
        names = " | ".join(path.stem for path in paths)
        lines.append(f"--config-path {folder.relative_to(config_root())} --config-name {names}")
    return lines
