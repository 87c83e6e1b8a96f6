"""Which runs a comparison means, and how long each of them trains."""

from __future__ import annotations

import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from mixbt_plugin import __version__
from mixbt_plugin.apps.command import PACKAGE
from mixbt_plugin.apps.comparison.arms import SAID_BY, Arm, named, parsed
from mixbt_plugin.apps.comparison.evaluator import MEASURES_FILE
from mixbt_plugin.apps.overrides import first_key
from mixbt_plugin.checkpoints import written_whole
from mixbt_plugin.keys import CompareConfig, PretrainConfig, complete
from mixbt_plugin.settings import ConfigError, flattened

RUN_FILE = "run.yaml"
DONE_FILE = "done"
CHECKPOINTS = 40
"""About so many times a run saves what it can be resumed from."""
SPEED_EPOCHS = 4
"""Of the runs that measure the speed; the first is not counted."""
TOLERANCE = 0.1
"""Of a budget of steps or images: the share that whole epochs may lie beside it."""
BY_THE_EPOCHS = ("epochs", "cfg.max_epochs")
"""What a run's number of epochs decides, beside what may differ anyway."""
MAY_DIFFER = (
    *("version", "cfg.data.train_path", "cfg.data.val_path", "cfg.data.num_workers"),
    *("cfg.checkpoint.dir", "cfg.checkpoint.frequency", "cfg.check_val_every_n_epoch"),
)
"""Of a run that is done or goes on; the last two follow from the epochs."""


@dataclass
class Run:
    """A training and its evaluations, as ``run.yaml`` in its folder says it.

    Attributes:
        folder: where it happens.
        arm: its name.
        seed: its seed.
        epochs: after which it is measured, the last being the end.
        clock: what its seconds are counted by.
        evaluation: the probes' settings; None measures the time and the loss alone.
        version: of the code.
        cfg: of the pre-training, composed, as plain values.
    """

    folder: Path
    arm: str
    seed: int
    epochs: list[int]
    clock: str
    evaluation: dict[str, Any] | None
    version: str
    cfg: dict[str, Any]

    def write(self) -> None:
        """Writes ``run.yaml``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(self.folder / RUN_FILE) as file:
            OmegaConf.save(OmegaConf.create(self._content()), file)

    @classmethod
    def read(cls, folder: Path) -> Run:
        """The run of a folder."""
        content: Any = OmegaConf.to_container(OmegaConf.load(folder / RUN_FILE))
        return cls(folder=folder, **content)

    def is_done(self) -> bool:
        """Whether it has ended, with its last epoch measured and saved."""
        return (self.folder / DONE_FILE).is_file()

    def set_done(self) -> None:
        """Says that it has."""
        (self.folder / DONE_FILE).touch()

    def refuse_another(self, but_for: tuple[str, ...] = ()) -> None:
        """Raises ValueError where the folder holds a run that is not this one.

        Args:
            but_for: keys that are not known yet.
        """
        if not (self.folder / RUN_FILE).is_file():
            return
        theirs, ours = (flattened(run._completed()) for run in (Run.read(self.folder), self))
        for key in sorted({*theirs, *ours} - {*MAY_DIFFER, *but_for}):
            if theirs.get(key) != ours.get(key):
                raise ConfigError(
                    f"output_dir: {self.folder} holds a run with {_as_overridden(key)}="
                    f"{theirs.get(key)!r}, and this comparison has {ours.get(key)!r}. Give the arm "
                    "another name or the comparison another output_dir."
                )

    def _completed(self) -> dict[str, Any]:
        """With the defaults of keys that there were not yet when it was written."""
        cfg = OmegaConf.create(self.cfg)
        complete(cfg, PretrainConfig)
        return {**self._content(), "cfg": OmegaConf.to_container(cfg)}

    def _content(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def _as_overridden(key: str) -> str:
    """What a key of ``run.yaml`` is called where it is overridden."""
    of_the_run = {"clock": "budget.clock", "epochs": "evaluation.epochs"}
    name = of_the_run.get(key, key.removeprefix("cfg."))
    said_by = SAID_BY.get(first_key(name)) if key.startswith("cfg.") else None
    return f"{said_by}, that is {name}" if said_by else name


def plan_runs(comparison: CompareConfig, arms: dict[str, Arm], epochs: dict[str, int]) -> list[Run]:
    """All runs, seed by seed, so that what is done first can be compared.

    Args:
        comparison: checked.
        arms: checked.
        epochs: of each arm.

    Raises:
        ValueError: an evaluation lies beyond an arm's last epoch, or ``output_dir`` holds another
            run under the same name.
    """
    runs = _runs(comparison, arms, epochs)
    for run in runs:
        run.refuse_another()
    if comparison.budget.unit != "epochs":
        for run in runs[: len(arms)]:
            with named(run.arm):
                parsed(OmegaConf.create(run.cfg))  # of so many epochs it was not checked yet
    return runs


def refuse_other_runs(comparison: CompareConfig, arms: dict[str, Arm]) -> None:
    """Refuses what `plan_runs` will, as far as it can be known without the numbers of epochs."""
    for run in _runs(comparison, arms, dict.fromkeys(arms, 1)):
        run.refuse_another(but_for=BY_THE_EPOCHS)


def _runs(comparison: CompareConfig, arms: dict[str, Arm], epochs: dict[str, int]) -> list[Run]:
    runs = []
    for seed in comparison.seeds:
        for name, arm in arms.items():
            with named(name):
                runs.append(_run(comparison, name, arm.cfg, seed, epochs[name]))
    return runs


def _run(comparison: CompareConfig, arm: str, cfg: DictConfig, seed: int, last: int) -> Run:
    folder = Path(comparison.output_dir).resolve() / "runs" / arm / f"seed{seed}"
    return Run(
        folder=folder,
        arm=arm,
        seed=seed,
        epochs=evaluated_epochs(comparison.evaluation.epochs, last),
        clock=comparison.budget.clock,
        evaluation=comparison.evaluation.model_dump(),
        version=code_version(),
        cfg=_of_run(cfg, folder, seed, last),
    )


def _of_run(cfg: DictConfig, folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(cfg)  # interpolations stay: what they name is known
    return {
        **plain,
        "seed": seed,
        "max_epochs": epochs,
        "check_val_every_n_epoch": epochs + 1,
        "checkpoint": {
            "enabled": True,
            "dir": str(folder),
            "frequency": max(1, epochs // CHECKPOINTS),
            "keep_prev": False,
        },
    }


def evaluated_epochs(wanted: int | list[int], last: int) -> list[int]:
    """The untrained network's 0, the epochs that are wanted, and the last.

    Args:
        wanted: the epochs, or how many, evenly spaced.
        last: of the run.

    Raises:
        ValueError: one is beyond the last.
    """
    if isinstance(wanted, list):
        if max(wanted) > last:
            raise ConfigError(f"evaluation.epochs={wanted}: the last epoch is {last}.")
        return sorted({0, *wanted, last})
    return sorted({0, *(max(1, round(last * n / wanted)) for n in range(1, wanted + 1))})


def speed_runs(comparison: CompareConfig, arms: dict[str, Arm]) -> dict[str, Run]:
    """Short runs of each arm, without evaluations, that tell how long an epoch takes."""
    runs = {}
    for name, arm in arms.items():
        folder = Path(comparison.output_dir).resolve() / "speed" / name
        seed = comparison.seeds[0]
        runs[name] = Run(
            folder=folder,
            arm=name,
            seed=seed,
            epochs=[1, SPEED_EPOCHS],
            clock=comparison.budget.clock,
            evaluation=None,
            version=code_version(),
            cfg=_of_run(arm.cfg, folder, seed, SPEED_EPOCHS),
        )
        runs[name].refuse_another()
    return runs


def epochs_within(
    comparison: CompareConfig, arms: dict[str, Arm], speed: dict[str, Run]
) -> dict[str, int]:
    """How many whole epochs of each arm come nearest to the budget, at least one.

    Args:
        comparison: checked.
        arms: checked.
        speed: of `speed_runs`, done, where the budget is of seconds.

    Raises:
        ConfigError: the budget is of steps or images, and whole epochs do not come near it.
    """
    budget = comparison.budget
    if budget.unit == "epochs":
        return {name: int(budget.amount) for name in arms}
    if budget.unit == "seconds":
        spent = {name: seconds_per_epoch(run) for name, run in speed.items()}
    else:
        spent = {name: getattr(arm, budget.unit) for name, arm in arms.items()}
    epochs = {name: max(1, round(budget.amount / each)) for name, each in spent.items()}
    for name, count in epochs.items():
        reached = count * spent[name]
        if budget.unit != "seconds" and abs(reached / budget.amount - 1) > TOLERANCE:
            raise ConfigError(
                f"arms.{name}: budget.amount={budget.amount:g}: an epoch has {spent[name]:,} "
                f"{budget.unit}, so that {count} would come nearest, with {reached:,}; expected a "
                "multiple, or limit_train_batches, which makes shorter epochs."
            )
    return epochs


def seconds_per_epoch(run: Run) -> float:
    """Of a run that is done: the mean, the first epoch left out."""
    seconds = pd.read_csv(run.folder / MEASURES_FILE).groupby("epoch").seconds.first()
    return float(seconds[SPEED_EPOCHS] - seconds[1]) / (SPEED_EPOCHS - 1)


@cache
def code_version() -> str:
    """The package's version and, of a checkout, the commit; ``.dirty`` where files differ."""
    inside = _git("rev-parse", "--show-toplevel")
    if inside is None or Path(inside).resolve() != PACKAGE.parent.resolve():
        return __version__  # installed somewhere within another project
    return f"{__version__}+g{_git('describe', '--always', '--dirty=.dirty', '--abbrev=9')}"


def _git(*words: str) -> str | None:
    try:
        command = ["git", "-C", str(PACKAGE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
