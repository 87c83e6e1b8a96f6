"""Draws docs/method.png: ``python docs/draw_method.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from sklearn.datasets import load_sample_image

BLUE, ORANGE, GREEN, GREY = "#3b6ea5", "#d9822b", "#4f9a5b", "#666666"


def box(axes: Axes, x: float, y: float, text: str, color: str, width: float = 1.3) -> None:
    """A rounded box with its text."""
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - 0.3),
            width,
            0.6,
            boxstyle="round,pad=0.02,rounding_size=0.12",
            facecolor=color,
            edgecolor="none",
        )
    )
    axes.text(x, y, text, ha="center", va="center", color="white", fontsize=10)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    """An arrow between two points."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.4})


def picture(axes: Axes, x: float, y: float, image: np.ndarray, text: str, color: str) -> None:
    """An image with its name."""
    half = 0.5
    axes.imshow(image, extent=(x - half, x + half, y - half, y + half), zorder=2)
    axes.plot(
        [x - half, x + half, x + half, x - half, x - half],
        [y - half, y - half, y + half, y + half, y - half],
        color=color,
        lw=2,
        zorder=3,
    )
    axes.text(x - 0.7, y, text, ha="right", va="center", color=color, fontsize=10)


def main() -> None:
    """Draws the picture."""
    china, flower = (load_sample_image(f"{name}.jpg") / 255 for name in ("china", "flower"))
    view_a = china[120:370, 170:420]
    view_b = flower[90:340, 250:500][:, ::-1]
    mixed = 0.6 * view_a + 0.4 * view_b

    figure, axes = plt.subplots(figsize=(10, 4.3), layout="constrained")
    rows = {"a": (3.2, BLUE), "m": (1.9, GREEN), "b": (0.6, ORANGE)}
    names = {"a": "view $x_A$", "b": "view $x_B$, shuffled", "m": "mixed $x_M$"}
    images = {"a": view_a, "b": view_b, "m": mixed}
    for key, (y, color) in rows.items():
        picture(axes, 0.0, y, images[key], names[key], color)
        box(axes, 2.3, y, "network", GREY)
        box(axes, 4.4, y, f"$Z_{key.upper()}$", color, width=0.9)
        arrow(axes, (0.6, y), (1.6, y), color)
        arrow(axes, (3.0, y), (3.9, y), color)
    axes.text(
        0, -0.25, r"$x_M = \alpha\,x_A + (1-\alpha)\,x_B[\pi]$", ha="center", va="top", fontsize=10
    )
    axes.text(2.3, 2.55, "the same weights", ha="center", fontsize=9, color=GREY)

    box(axes, 7.3, 3.0, "Barlow Twins", BLUE, width=2.2)
    axes.text(
        8.6,
        3.0,
        r"$Z_A^\top Z_B / N \;\to\; I$",
        va="center",
        fontsize=11,
    )
    box(axes, 7.3, 1.3, "regulariser", GREEN, width=2.2)
    axes.text(
        8.6,
        1.3,
        r"$R = Z_M - \alpha Z_A - (1-\alpha) Z_B[\pi]$"
        "\n"
        r"$\|R^\top Z_A\|^2 + \|R^\top Z_B\|^2 \;\to\; 0$",
        va="center",
        fontsize=11,
    )
    for key, end in (("a", 3.1), ("b", 2.85), ("a", 1.55), ("m", 1.3), ("b", 1.05)):
        arrow(axes, (4.9, rows[key][0]), (6.15, end), rows[key][1])
    axes.set_xlim(-2.6, 12.1)
    axes.set_ylim(-0.75, 4.0)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.savefig(Path(__file__).with_name("method.png"), dpi=110)


if __name__ == "__main__":
    main()
