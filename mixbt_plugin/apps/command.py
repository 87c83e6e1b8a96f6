"""How the commands find their configs."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig

from mixbt_plugin.apps.overrides import (
    adding_new_keys,
    in_words,
    refuse_unread,
    with_quoted_paths,
)
from mixbt_plugin.apps.renamed import renamed
from mixbt_plugin.settings import ConfigError, RunError

PACKAGE = Path(__file__).parents[1]
PATH_FLAGS = ("--config-path", "-cp")
NAME_FLAGS = ("--config-name", "-cn")
CFG_FLAGS = ("--cfg", "-c")
PACKAGE_FLAGS = {"--package", "-p"}
NO_CONFIG_FLAGS = ("--help", "-h", "--hydra-help", "--version", "--info", "-i")


def config_root() -> Path:
    """Folder of the shipped configs: in the package of a wheel, beside it in a checkout."""
    shipped = PACKAGE / "configs"
    return shipped if shipped.is_dir() else PACKAGE.parent / "configs"


def run_command(
    name: str,
    default_config: str | None = None,
    more_groups: tuple[str, ...] = (),
    shows: bool = False,
) -> None:
    """Runs ``mixbt_plugin.apps.<name>.task`` as a Hydra application.

    ``--config-path`` is a folder here, or one of the shipped ones, such as ``pretrain/cifar``.
    Without it and with ``--config-name`` alone, the shipped folder of the command is searched.
    A config that is refused ends in one message and exit status 2, a run that ends before its end
    for a reason that is known in one message and exit status 1. A key that the config does not hold
    yet needs no plus.
    Paths may hold what Hydra's grammar would stumble over (`with_quoted_paths`).

    Args:
        name: of the module, and of the command's folder of shipped configs.
        default_config: name of the config that is taken where none is given.
        more_groups: further folders of configs of this command.
        shows: whether the module's ``show`` answers ``--cfg job``, with more than Hydra knows.
    """
    # In place: Lightning starts the other processes with the same words.
    sys.argv[1:] = with_quoted_paths(sys.argv[1:])
    folder, config = _take(PATH_FLAGS), _take(NAME_FLAGS)
    if config is not None:
        _refuse_renamed(folder or name, config, name)
        _put(NAME_FLAGS, config)
    if folder is not None:
        _put(PATH_FLAGS, str(find_folder(folder, name)))
    flags = {word.partition("=")[0] for word in sys.argv[1:]}
    if default_config is None and flags.isdisjoint({*NAME_FLAGS, *NO_CONFIG_FLAGS}):
        known = [line for each in (name, *more_groups) for line in _shipped(each)]
        shipped = "\n".join(f"  {line}" for line in known)
        sys.exit(f"Which config? For instance one of\n{shipped}")

    module = f"mixbt_plugin.apps.{name}"
    action = "show" if shows and _takes_out_cfg_job() else "task"

    def task(cfg: DictConfig) -> Any:
        try:
            if name != "compare":  # whose arms have the recipes, with overrides of their own
                refuse_unread(cfg, HydraConfig.get().overrides.task)
            return getattr(import_module(module), action)(cfg)
        except (ConfigError, RunError) as error:
            _end(name, _message(error), 2 if isinstance(error, ConfigError) else 1)

    # What Hydra calls the application.
    task.__module__ = module
    application = hydra.main(
        version_base="1.2", config_path=str(config_root() / name), config_name=default_config
    )(task)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra ends the process by itself

    def run(words: list[str]) -> None:
        sys.argv[1:] = words
        GlobalHydra.instance().clear()
        application()

    try:
        adding_new_keys(run, sys.argv[1:])
    except HydraException as error:
        _end(name, in_words(error), 2)


def _end(name: str, message: str, status: int) -> NoReturn:
    print(f"mixbt-{name}: {message}", file=sys.stderr)
    sys.exit(status)


def _message(error: Exception) -> str:
    """The text without the traceback that PyTorch puts before it in a process of a loader."""
    return str(error).rpartition(f"{type(error).__name__}: ")[2].strip()


def _take(flags: tuple[str, ...]) -> str | None:
    """Takes a flag out of the command line; gives its value, None where it is not there."""
    for position, word in enumerate(sys.argv[1:], start=1):
        flag, equals, value = word.partition("=")
        if flag in flags and equals:
            del sys.argv[position]
            return value
        if flag in flags and position + 1 < len(sys.argv):
            value = sys.argv[position + 1]
            del sys.argv[position : position + 2]
            return value
    return None


def _put(flags: tuple[str, ...], value: str) -> None:
    """Puts a flag at the beginning of the command line, where Hydra takes it before overrides."""
    sys.argv[1:1] = [flags[0], value]


def _takes_out_cfg_job() -> bool:
    """Takes ``--cfg job`` out of the command line, and says whether it was there."""
    if not PACKAGE_FLAGS.isdisjoint(sys.argv):
        return False  # a part of the config, which Hydra shows
    wanted = _take(CFG_FLAGS)
    if wanted == "job" and "--resolve" in sys.argv:
        sys.argv.remove("--resolve")
    elif wanted not in (None, "job"):
        _put(CFG_FLAGS, str(wanted))
    return wanted == "job"


def _refuse_renamed(folder: str, config: str, group: str) -> None:
    """Ends the command where this was a recipe's name; says what it is now."""
    root = config_root().resolve()
    for place in (Path(folder), root / folder, root / group / folder):
        path = (place / config.removesuffix(".yaml")).resolve()
        name = str(path.relative_to(root)) if path.is_relative_to(root) else ""
        if replacement := renamed(name):
            sys.exit(f"{name} is no recipe of its own any more: {replacement}")


def find_folder(value: str, group: str) -> Path:
    """The folder that ``--config-path`` means: one here, or a shipped one."""
    folder = shipped_or_own(value, group)
    if folder is None:
        where = f"here or among the shipped ones in {config_root()}"
        sys.exit(f"--config-path {value}: no such folder, {where}.")
    return folder


def shipped_or_own(value: str, group: str) -> Path | None:
    """A folder here, or a shipped one, of any group or of this one; None if there is none."""
    root = config_root()
    for folder in (Path(value), root / value, root / group / value):
        if folder.is_dir():
            return folder.resolve()
    return None


def shipped_configs(group: str) -> list[Path]:
    """The shipped configs of a command."""
    return sorted((config_root() / group).rglob("*.yaml"))


def _shipped(group: str) -> list[str]:
    lines = []
    for folder, paths in groupby(shipped_configs(group), key=lambda path: path.parent):
        names = " | ".join(path.stem for path in paths)
        lines.append(f"--config-path {folder.relative_to(config_root())} --config-name {names}")
    return lines
