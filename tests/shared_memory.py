"""How much of an array a process holds alone; imports little, for processes that are spawned."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any


def private_share(images: Any) -> float:
    """Share of the mapping around ``images.images`` that no other process has too."""
    address, sizes = images.images.data_ptr(), {"Rss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name = line.split(":")[0]
        if name in sizes:
            sizes[name] += inside * int(line.split()[1])
        elif "-" in line.split()[0]:
            first, last = (int(end, 16) for end in line.split()[0].split("-"))
            inside = first <= address < last
    return (sizes["Private_Clean"] + sizes["Private_Dirty"]) / sizes["Rss"]


def read_all(images: Any) -> None:
    """Reads every image."""
    for n in range(len(images)):
        images[n]


def report(images: Any, queue: Any, done: Any) -> None:
    """Reads every image, tells the share, and stays until the others have read it."""
    read_all(images)
    queue.put(private_share(images))
    done.wait(60)


def written() -> int:
    """KiB of memory that this process wrote to and no other has too."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))


def report_written_by_a_fork(image: str, queue: Any) -> None:
    """Tells how many KiB a forked process writes to that reads 16 MB of names, all of ``image``."""
    from mixbt_plugin.data.batches import as_tensor
    from mixbt_plugin.data.files import ImageFiles, Listing

    folder, _, name = image.rpartition("/")
    names = [f"{folder}/{'./' * (1000 - n % 2)}{name}" for n in range(8000)]
    images = ImageFiles(Listing(names, [0] * len(names), ["class0"]), as_tensor)
    del names
    images[0]
    worker = multiprocessing.get_context("fork").Process(
        target=_report_written, args=(images, queue)
    )
    worker.start()
    worker.join()


def _report_written(images: Any, queue: Any) -> None:
    before = written()
    read_all(images)
    queue.put(written() - before)
