"""Commands that README and docs print can be typed: overrides parse, configs compose."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from mixbt_plugin.apps.command import config_root, find_folder

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
DEFAULT_CONFIGS = dict.fromkeys(("knn", "export", "embed", "diagnose"), "default")
SCRIPTS = {
    "scripts/main_pretrain.py": "pretrain",
    "scripts/main_linear.py": "linear",
    "scripts/main_knn.py": "knn",
    "solo-learn/main_pretrain.py": "pretrain",
    "solo-learn/main_linear.py": "linear",
}
FLAGS_WITH_VALUE = {"--config-path": "path", "-cp": "path", "--config-name": "name", "-cn": "name"}


def commands(page: Path) -> Iterator[str]:
    """Lines of bash blocks, continued ones joined, and what stands in backticks in the text."""
    text = page.read_text()
    for block in re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", outside))


def documented(start: str) -> list[object]:
    """The commands that match ``start``, each once, as parameters that say where they stand."""
    found: dict[str, Path] = {}
    for page in PAGES:
        for command in commands(page):
            if re.search(start, command):
                found.setdefault(command, page.relative_to(ROOT))
    return [pytest.param(command, id=f"{page}: {command}") for command, page in found.items()]


def words_of(command: str) -> list[str]:
    return shlex.split(command.replace("$PWD", str(ROOT)), comments=True)


def application(words: list[str]) -> tuple[str, list[str]] | None:
    """The name of our command that a line starts, and its arguments; None if there is none."""
    for place, word in enumerate(words):
        if word.startswith("mixbt-"):
            return word.removeprefix("mixbt-"), words[place + 1 :]
        if word in SCRIPTS:
            return SCRIPTS[word], words[place + 1 :]
    return None


@pytest.mark.parametrize("command", documented(r"(^|[ /])(mixbt-[a-z]+|main_[a-z]+\.py) +\S"))
def test_a_documented_command_composes(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Folders are as one sees them from the checkout.
    monkeypatch.chdir(ROOT)
    found = application(words_of(command))
    assert found, f"no command of ours in {command!r}"
    name, arguments = found
    if name == "doctor":
        return
    options = {"path": name, "name": DEFAULT_CONFIGS.get(name, "")}
    overrides = []
    remaining = iter(arguments)
    for word in remaining:
        flag, equals, value = word.partition("=")
        if flag in FLAGS_WITH_VALUE:
            options[FLAGS_WITH_VALUE[flag]] = value if equals else next(remaining)
        elif word in ("&&", "|", ">", ";", "&", "||"):
            break
        elif not word.startswith("-"):
            # An ellipsis stands for a path of the reader's.
            overrides.append(word.replace("…", "some.path"))
    OverridesParser.create().parse_overrides(overrides)
    # solo-learn's own configs are not here: tests/plugin/test_stock_solo_learn.py changes one.
    if options["name"] and not options["path"].startswith(str(ROOT / "solo-learn")):
        given = options["path"]
        folder = config_root() / name if given == name else find_folder(given, name)
        # Hydra composes the jobs of a sweep one by one.
        single = [one for one in overrides if not re.search(r"=[^\[{'\"]*,", one)]
        with initialize_config_dir(str(folder), version_base="1.2"):
            compose(options["name"], overrides=single)


@pytest.mark.parametrize(
    "command", documented(r"^(bash|python) (-m )?(scripts|benchmarks|tests)[/.]")
)
def test_a_documented_script_is_there(command: str) -> None:
    _, *words = words_of(command)
    if words[0] == "-m":
        assert find_spec(words[1]), f"no module {words[1]}"
    else:
        assert (ROOT / words[0]).is_file(), f"no file {words[0]}"
