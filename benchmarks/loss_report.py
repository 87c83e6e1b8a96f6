"""Tables and a plot of what ``benchmarks.loss --save`` wrote."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.interleaved import table
from benchmarks.loss import OBJECTIVES, Row, read

CELLS: dict[str, Callable[[Row], float]] = {
    "ours, ms": lambda found: found["ms"]["ours"],
    "ours / six products": lambda found: 1 / found["to_ours"]["six products"],
    "official / ours": lambda found: found["to_ours"]["official"],
    "solo-learn / ours": lambda found: found["to_ours"]["solo-learn"],
    "other side / auto": lambda found: found["to_ours"]["other"],
    "ours, MiB": lambda found: found["mib"]["ours"],
    "official, MiB": lambda found: found["mib"]["official"],
}


def matrix(rows: Sequence[Row], cell: Callable[[Row], float]) -> str:
    """A table of one number, N downwards and D to the right, – where it was not measured."""
    found = {}
    for row in rows:
        try:
            found[row["n"], row["d"]] = f"{cell(row):.3g}"
        except KeyError:
            found[row["n"], row["d"]] = "–"
    columns = sorted({d for _, d in found})
    lines = [[n, *(found.get((n, d), "–") for d in columns)] for n in sorted({n for n, _ in found})]
    return table(["N \\ D", *map(str, columns)], lines)


def right_side(rows: Sequence[Row], within: float) -> str:
    """How often ``impl: auto`` took the faster side, or one slower by less than ``within``."""
    others = [row["to_ours"]["other"] for row in rows if "other" in row["to_ours"]]
    right = sum(other >= 1 for other in others)
    near = sum(other >= 1 - within for other in others)
    return (
        f"impl: auto took the faster side in {right} of {len(others)} sizes "
        f"({right / len(others):.0%}), and one at most {within:.0%} slower in {near}; "
        f"at worst the other took {min(others):.2f} of its time."
    )


def draw(rows: Sequence[Row], n: int, path: Path) -> None:
    """Milliseconds against D, for N = n, of Mixed Barlow Twins and of Barlow Twins."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = {"official": "dense (official code)", "six products": "six N x N x D products"}
    styles = {"ours": "C0o-", "official": "C3s--", "solo-learn": "C1^--", "six products": "k:"}
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
    for axes, objective in zip(panels, ("mixbt", "barlow_twins")):
        of_n = [row for row in rows if row["objective"] == objective and row["n"] == n]
        for key, style in styles.items():
            points = sorted((row["d"], row["ms"][key]) for row in of_n if key in row["ms"])
            if points:
                axes.plot(*zip(*points), style, label=names.get(key, key))
        axes.set(xscale="log", yscale="log", xlabel="D", title=f"{objective}, N = {n}")
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("forward and backward, ms")
    panels[1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("saved", type=Path, help="what --save wrote")
    parser.add_argument("--plot", type=Path, help="also draw this picture")
    parser.add_argument("--n", type=int, default=256, help="of the picture")
    args = parser.parse_args(arguments)
    rows = read(args.saved)
    print(right_side(rows, within=0.1))
    for objective in OBJECTIVES:
        found = [row for row in rows if row["objective"] == objective]
        for title, cell in CELLS.items():
            if title.startswith("solo-learn") and not OBJECTIVES[objective].solo_learn:
                continue
            print(f"\n{objective}: {title}\n\n{matrix(found, cell)}")
    if args.plot:
        draw(rows, args.n, args.plot)


if __name__ == "__main__":
    main()
