"""What the site has otherwise than the pages in the repository: links to code, and formulas."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from latex2mathml.converter import convert

LINK = re.compile(r"(?<!!)\[([^\[\]]+)\]\((\.\./[^)#\s]*)(#[^)\s]*)?\)")
FORMULA = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_config(config: Any, **_: Any) -> Any:
    """The address that a repository is cloned from becomes the one that it is read at."""
    config.repo_url = (config.repo_url or "").removesuffix(".git")
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Links that leave docs/ lead to the repository, or are text; formulas become MathML."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        if path.startswith("docs/"):
            return found[0]
        if not config.repo_url:
            return text
        return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path}{anchor or ''})"

    def formula(found: re.Match[str]) -> str:
        return convert(found[1].strip(), display="block")

    return FORMULA.sub(formula, LINK.sub(link, markdown))
