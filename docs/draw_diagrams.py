"""Draws the diagrams of the pages: ``python docs/draw_diagrams.py`` writes docs/*.svg."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import cos, pi, sin
from pathlib import Path
from xml.sax.saxutils import escape

BLUE, ORANGE, GREEN, GREY = "#3b6ea5", "#d9822b", "#4f9a5b", "#666666"
Point = tuple[float, float]


def text(x: float, y: float, words: str, size: float = 14, color: str = "#222") -> str:
    """Centred words, of which each line after a newline stands below."""
    lines = words.split("\n")
    first = y - (len(lines) - 1) * 0.6 * size + 0.35 * size
    return "".join(
        f'<text x="{x}" y="{first + i * 1.2 * size:.1f}" font-size="{size}" fill="{color}" '
        f'text-anchor="middle">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )


def box(x: float, y: float, words: str, color: str = BLUE, width: float = 130) -> str:
    """A box of 50 px height around its centre."""
    return (
        f'<rect x="{x - width / 2}" y="{y - 25}" width="{width}" height="50" rx="8" '
        f'fill="{color}"/>' + text(x, y, words, 13, "white")
    )


def line(start: Point, end: Point, color: str = GREY, arrow: bool = True) -> str:
    """A straight line, with an arrow's head at its end."""
    head = ' marker-end="url(#head)"' if arrow else ""
    return (
        f'<line x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}" stroke="{color}" '
        f'stroke-width="1.6"{head}/>'
    )


def write(name: str, width: int, height: int, *parts: str) -> None:
    """An SVG file beside this one."""
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{GREY}"/></marker></defs>'
    )
    body = f'<rect width="{width}" height="{height}" fill="white"/>' + "\n".join([head, *parts])
    Path(__file__).with_name(name).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" font-family="sans-serif">{body}</svg>\n'
    )


def chain(y: float, names: list[str], colors: list[str], step: float = 165) -> list[str]:
    """Boxes from left to right with arrows between them."""
    places = [80 + i * step for i in range(len(names))]
    arrows = [line((a + 65, y), (b - 67, y)) for a, b in pairwise(places)]
    return [*(box(x, y, name, color) for x, name, color in zip(places, names, colors)), *arrows]


def data_way() -> None:
    """From a file to the gradient."""
    names = ["image file", "V views", "backbone", "projector", "loss"]
    below = ["data/", "host pipelines\nor views/", "host or\nbackbones/", "methods/", "losses/"]
    steps = chain(60, names, [GREY, ORANGE, BLUE, BLUE, GREEN])
    notes = [text(80 + i * 165, 115, words, 12) for i, words in enumerate(below)]
    shapes = ["", "(N, 3, H, W) each", "features (N, F)", "embeddings (N, D)", "() and terms"]
    above = [text(80 + i * 165, 18, words, 12, GREY) for i, words in enumerate(shapes)]
    mixture = [
        box(245, 185, "mixture of\ntwo views", ORANGE),
        line((245, 140), (245, 158)),
        line((305, 158), (362, 87)),
        text(245, 225, "mixing.py", 12),
    ]
    classifier = [
        box(575, 185, "online classifier,\nkNN, diagnostics", GREY, 150),
        line((458, 87), (520, 157)),
        text(735, 185, "features without\ngradient", 12, GREY),
    ]
    back = [
        '<path d="M740 35 C 740 -18, 455 -18, 452 33" fill="none" '
        f'stroke="{GREEN}" stroke-width="1.6" stroke-dasharray="5 4" marker-end="url(#head)"/>',
    ]
    group = '<g transform="translate(0,25)">' + "\n".join([*steps, *notes, *above]) + "</g>"
    rest = '<g transform="translate(0,25)">' + "\n".join([*mixture, *classifier]) + "</g>"
    gradient = '<g transform="translate(0,25)">' + "".join(back) + "</g>"
    write("data-way.svg", 830, 265, group, rest, gradient, text(600, 12, "gradient", 12, GREEN))


def config_way() -> None:
    """From the YAML to the optimiser."""
    names = ["recipe, defaults,\noverrides", "one config", "checked\nconfig", "method"]
    names.append("optimiser,\nschedule")
    below = ["Hydra composes", "apps/schema\nrefuses what is wrong", "the host's parser\nfills in"]
    below += ["registry:\nname → class", "configure_optimizers"]
    steps = chain(40, names, [ORANGE, GREY, GREY, BLUE, GREEN])
    notes = [text(80 + i * 165, 95, words, 12) for i, words in enumerate(below)]
    saved = [
        box(410, 165, "args.json beside\nthe checkpoint", GREY, 150),
        line((410, 118), (410, 138)),
        box(245, 165, "exit status 2,\none message", ORANGE),
        line((245, 118), (245, 138)),
    ]
    write("config-way.svg", 830, 200, *steps, *notes, *saved)


def many_views() -> None:
    """All pairs of four views, and each view against the mean."""
    parts = []
    for centre, mean in ((150, False), (450, True)):
        corners = [
            (centre + 85 * cos(pi / 4 + i * pi / 2), 130 - 85 * sin(pi / 4 + i * pi / 2))
            for i in range(4)
        ]
        if mean:
            parts += [line(corner, (centre, 130), GREEN, False) for corner in corners]
            parts.append(f'<circle cx="{centre}" cy="130" r="22" fill="{ORANGE}"/>')
            parts.append(text(centre, 130, "mean", 13, "white"))
        else:
            parts += [line(a, b, GREEN, False) for a, b in combinations(corners, 2)]
        for i, (x, y) in enumerate(corners):
            parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="22" fill="{BLUE}"/>')
            parts.append(text(round(x), round(y), f"Z{'₁₂₃₄'[i]}", 15, "white"))
        parts.append(text(centre, 245, "pairing: mean" if mean else "pairing: all"))
    write("many-views.svg", 600, 265, *parts)


def targets() -> None:
    """The target of the cross-correlation matrix, of Barlow Twins and HSIC-SSL."""
    losses = {60: ("Barlow Twins", "0", "#eeeeee"), 360: ("HSIC-SSL", "-1", BLUE)}
    parts = []
    for left, (name, *off) in losses.items():
        for i in range(5):
            for j in range(5):
                words, color = ("1", ORANGE) if i == j else off
                x, y = left + 36 * j, 20 + 36 * i
                parts.append(f'<rect x="{x}" y="{y}" width="34" height="34" fill="{color}"/>')
                ink = "#222" if words == "0" else "white"
                parts.append(text(x + 17, y + 17, words, 13, ink))
        parts.append(text(left + 89, 220, f"C of {name} is drawn to"))
    write("targets.svg", 600, 240, *parts)


if __name__ == "__main__":
    data_way()
    config_way()
    many_views()
    targets()
