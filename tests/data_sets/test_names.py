"""The names of files as a sequence of text."""

from __future__ import annotations

import pickle

import pytest

from mixbt_plugin.data.names import FileNames

NAMES = ["a/b.png", "", "größe/写真.jpg", "not \udcff UTF-8.png", "a/b.png"]


def test_it_is_the_sequence() -> None:
    names = FileNames(iter(NAMES))
    assert list(names) == NAMES
    assert [names[n] for n in range(-len(NAMES), len(NAMES))] == NAMES * 2
    assert (len(names), len(FileNames([]))) == (len(NAMES), 0)
    assert list(pickle.loads(pickle.dumps(names))) == NAMES
    with pytest.raises(IndexError):
        names[len(NAMES)]
