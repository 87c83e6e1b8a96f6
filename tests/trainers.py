"""Lightning's trainer as the tests use it."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def quiet_trainer(**given: Any) -> Trainer:
    """One of an epoch on the CPU, which writes and shows nothing but what is given."""
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{"max_epochs": 1, **quiet, **given})
