"""The examples in docstrings give what stands below them."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

from mixbt_plugin import losses

PACKAGES = ("diagnostics", "evaluation", "functional", "losses", "views")
MODULES = [
    *(
        module.name
        for name in PACKAGES
        for module in pkgutil.iter_modules(
            import_module(f"mixbt_plugin.{name}").__path__, f"mixbt_plugin.{name}."
        )
    ),
    "mixbt_plugin.mixing",
]


def examples(module: str) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(import_module(module))
    return [test for test in found if test.examples]


WITH_EXAMPLES = [test for module in MODULES for test in examples(module)]


@pytest.mark.parametrize("test", WITH_EXAMPLES, ids=lambda test: test.name)
def test_example(test: doctest.DocTest) -> None:
    said: list[str] = []
    result = doctest.DocTestRunner().run(test, out=said.append)
    assert result.failed == 0, "".join(said)


def test_every_loss_has_one() -> None:
    functions = {name for name in losses.__all__ if name.endswith("_loss")}
    assert functions <= {test.name.rpartition(".")[2] for test in WITH_EXAMPLES}
