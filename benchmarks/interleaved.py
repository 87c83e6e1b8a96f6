"""Times alternatives in turns, A B A B …, and says on what machine.

Whatever slows the machine for a while then slows all alternatives alike: their ratio, taken round
by round, holds where the times do not.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

# The profiler, by which memory is measured, is otherwise talkative.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch.profiler import ProfilerActivity, profile

Alternative = Callable[[], object]


def interleave(
    alternatives: Mapping[str, Alternative],
    *,
    rounds: int = 5,
    seconds: float = 0.0,
    device: str = "cpu",
    warm: bool = False,
) -> dict[str, list[float]]:
    """Times each alternative once a round, after one round that is not counted.

    Args:
        alternatives: what to call, by name.
        rounds: how many rounds at least.
        seconds: go on with further rounds until this much time has passed.
        device: an accelerator is waited for before the clock is read.
        warm: call each right before it is timed, too. glibc otherwise gives back what one way has
            freed within the next one's time.

    Returns:
        Seconds of each round, by name.
    """
    _settle_allocator()
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    start = time.perf_counter()
    counted = -1
    while counted < rounds or time.perf_counter() - start < seconds:
        for name, call in alternatives.items():
            if warm:
                call()
            _wait_for(device)
            before = time.perf_counter()
            call()
            _wait_for(device)
            if counted >= 0:
                times[name].append(time.perf_counter() - before)
        counted += 1
    return times


def _settle_allocator() -> None:
    """Frees 32 MiB, as any training step does.

    glibc then keeps freed memory up to twice that in the process. Before, whether the next call
    waits for fresh pages is a matter of chance, and can double its time.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _wait_for(device: str) -> None:
    if device != "cpu":
        torch.accelerator.synchronize(device)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Median over the rounds of numerator / denominator."""
    return median(n / d for n, d in zip(numerator, denominator))


def peak_memory(call: Alternative) -> int:
    """Most bytes of tensors on the CPU that the call held at once, beyond what was there before.

    What libraries allocate beside PyTorch's allocator, such as a matrix product's packing buffers,
    is not seen.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    results = recorded.profiler.kineto_results
    changes = [event for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        peak = max(peak, held)
    return peak


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join(row(*line) for line in lines)


def row(*cells: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def machine(*packages: str) -> str:
    """Two lines: processor, threads, memory and system; versions of torch and ``packages``."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    names = ("torch", *packages)
    return (
        f"{_processor()}, {cores} cores, {torch.get_num_threads()} threads, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release()}\n"
        f"Python {platform.python_version()}, {', '.join(map(_version, names))}"
    )


def _processor() -> str:
    flags = torch.backends.cpu.get_cpu_capability()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return f"{line.split(':', 1)[1].strip()} ({flags})"
    return f"{platform.machine()} ({flags})"


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not installed"
