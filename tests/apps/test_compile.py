"""``performance.compile`` changes the speed alone: names, resuming and checkpoints stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mixbt_plugin.apps.linear import linear
from mixbt_plugin.apps.pretrain import pretrain
from tests.apps.composing import composed

SMALL = (
    *("+backbone.kwargs.width=8", "optimizer.batch_size=16", "data.num_workers=0"),
    *("limit_train_batches=2", "limit_val_batches=1", "precision=32", "accelerator=cpu"),
    *("max_epochs=2", "checkpoint.keep_prev=true", "+optimizer.kwargs.eps=1e-2"),
)
"""A large eps keeps AdamW from enlarging the rounding errors of small gradients. At width 4
PyTorch's own convolution of 4 channels in channels_last order crashes on some CPUs, compiled or
not."""


def run(folder: str, *overrides: str) -> Path:
    words = (*SMALL, f"checkpoint.dir={folder}", *overrides)
    return pretrain(composed("pretrain/photo_patches/mixbt.yaml", *words))


def weights(folder: Path) -> dict[str, Any]:
    (checkpoint,) = folder.glob("*-ep1.ckpt")
    state: dict[str, Any] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return state


@pytest.mark.slow
def test_compiled_resumed_and_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the whole of ``torch.compile`` but Inductor, which takes minutes to compile on a CPU.

    ``python -m benchmarks.step --run eager compiled`` and the tests on a GPU run Inductor.
    """
    compiled = []

    def compile(module: nn.Module) -> None:
        compiled.append(type(module).__name__)
        module._compiled_call_impl = torch.compile(module._call_impl, backend="aot_eager")

    monkeypatch.setattr(nn.Module, "compile", compile)
    plain = weights(run("plain"))
    assert not compiled
    folder = run("whole", "performance.compile=true")
    assert compiled == ["NarrowResNet10", "Sequential"]
    whole = weights(folder)
    assert list(whole) == list(plain)
    for name, value in whole.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-3, atol=1e-4)

    (earlier,) = folder.glob("*-ep0.ckpt")
    resume = f"resume_from_checkpoint='{earlier}'"
    resumed = weights(run("resumed", "performance.compile=true", resume))
    assert all(torch.equal(value, whole[name]) for name, value in resumed.items())

    (last,) = folder.glob("*-ep1.ckpt")
    small = [word for word in SMALL if "keep_prev" not in word and "eps" not in word]
    words = (*small, f"pretrained_feature_extractor='{last}'", "performance.compile=true")
    frozen = weights(linear(composed("linear/photo_patches.yaml", *words)))
    assert len(compiled) == 5
    key = "backbone.stages.0.conv1.weight"
    assert torch.equal(frozen[key], whole[key])
