"""Whole pipelines on batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as tv

from mixbt_plugin.views import BatchAugmentation, augmentation
from mixbt_plugin.views.parameters import NO_JITTER, ViewParameters
from tests.views.pipelines import EVERYTHING, MEAN, STD, patches, pil, pil_pipeline, settings


def drawn(augment: BatchAugmentation, images: Any, seed: int = 0) -> list[ViewParameters]:
    return augment.draw([image.shape[-2:] for image in images], np.random.default_rng(seed))


@contextmanager
def pillow_draws(views: ViewParameters, n: int) -> Iterator[None]:
    """Makes torchvision's and solo-learn's transforms take the n-th view's parameters."""
    jittered = views.hue_turn[n] != NO_JITTER
    happens = [jittered, views.gray[n], views.sigma[n] > 0, views.solarize[n]]
    happens += [views.equalize[n], views.flip[n]]
    uniform = iter([torch.tensor([0.0 if happened else 1.0]) for happened in happens])
    jitter = torch.from_numpy(views.order[n]), *views.factors[n].tolist()
    patch = mock.patch.object
    with (
        patch(transforms.RandomResizedCrop, "get_params", return_value=views.box[n].tolist()),
        patch(transforms.ColorJitter, "get_params", return_value=jitter),
        mock.patch("random.uniform", return_value=float(views.sigma[n])),
        mock.patch("torch.rand", side_effect=uniform),
    ):
        yield


@pytest.mark.parametrize("crop_size", [32, [40, 36]])
def test_a_whole_pipeline_is_pillows_with_the_same_parameters(crop_size: Any) -> None:
    augment = BatchAugmentation([settings(crop_size, **EVERYTHING)])
    (views,) = drawn(augment, patches())
    (ours,) = augment(patches(), [views])
    pipeline = pil_pipeline(crop_size, **EVERYTHING)
    levels = 255 * torch.tensor(STD).view(3, 1, 1)
    differences = []
    for n, (place, image) in enumerate(zip(views.view, views.image)):
        with pillow_draws(views, n):
            theirs = pipeline(pil(patches()[image]))
        difference = ((ours[place] - theirs) * levels).abs()
        if not views.equalize[n]:  # which magnifies a level to many
            differences.append(difference.flatten())
    flat = torch.cat(differences)
    assert flat.mean() < 0.2
    assert flat.quantile(0.999) < 8


def test_views_have_solo_learns_order_shape_and_type() -> None:
    pipelines = [settings(24, 2, **EVERYTHING), settings([12, 16], 3)]
    augment = BatchAugmentation(pipelines)
    views = augment(patches(), drawn(augment, patches()))
    assert [tuple(view.shape) for view in views] == [(60, 3, 24, 24)] * 2 + [(60, 3, 12, 16)] * 3
    assert all(view.dtype == torch.float32 and view.is_contiguous() for view in views)
    assert not torch.equal(views[0], views[1])


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_each_view_is_of_its_image(count: int) -> None:
    augment = BatchAugmentation([settings(32, count, rrc__enabled=False)])
    plain = transforms.Normalize(MEAN, STD)(patches() / 255)
    for view in augment(patches(), drawn(augment, patches())):
        torch.testing.assert_close(view, plain)


@pytest.mark.parametrize("size", [(20, 30), (30, 20), (25, 25)])
@pytest.mark.parametrize("crop_size", [16, [16], [12, 20]])
def test_whole_images_are_resized_as_solo_learns(size: tuple[int, int], crop_size: Any) -> None:
    image = tv.resize(patches()[:1], list(size))
    augment = BatchAugmentation([settings(crop_size, rrc__enabled=False)])
    (ours,) = augment(image, drawn(augment, image))
    theirs = pil_pipeline(crop_size, rrc__enabled=False)(pil(image[0]))
    assert ours[0].shape == theirs.shape
    torch.testing.assert_close(ours[0], theirs, atol=6 / 255 / min(STD), rtol=0)


def test_images_of_different_sizes_are_cropped_one_by_one() -> None:
    images = [tv.resize(patches()[n], [20 + n, 60 - n]) for n in range(30)]
    augment = BatchAugmentation([settings(24, 2, **EVERYTHING), settings(12, 1)])
    parameters = drawn(augment, images)
    views = augment(augment.crop(images, parameters), parameters)
    assert [tuple(view.shape) for view in views] == [(30, 3, 24, 24)] * 2 + [(30, 3, 12, 12)]

    same = [patches()[n] for n in range(30)]
    parameters = drawn(augment, same)
    one_by_one = augment(augment.crop(same, parameters), parameters)
    together = augment(torch.stack(same), parameters)
    for ours, theirs in zip(one_by_one, together):
        assert (ours - theirs).abs().mean() * 255 * 0.25 < 0.3


def test_different_shapes_that_cannot_be_one_batch() -> None:
    images = [tv.resize(patches()[n], [20, 20 + 5 * n]) for n in range(2)]
    augment = BatchAugmentation([settings(16, rrc__enabled=False)])
    with pytest.raises(ValueError, match=r"rrc.enabled=false and crop_size=16 .*\[height, width\]"):
        augment.crop(images, drawn(augment, images))


def everything(seed: int = 0) -> list[Tensor]:
    augment = BatchAugmentation([settings(32, 4, **EVERYTHING)])
    return augment(patches(), drawn(augment, patches(), seed))


def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads_and_in_any_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = torch.get_num_threads()
    results = []
    for number, chunk in ((1, 2**17), (2, 2**17), (1, 2**12), (1, 2**20)):
        monkeypatch.setitem(augmentation.CHUNK, "cpu", chunk)
        torch.set_num_threads(number)
        results.append(everything())
    torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other))
    assert not torch.equal(results[0][0], everything(seed=1)[0])


def test_nothing_global_is_drawn_from() -> None:
    numpy_state: Any = np.random.get_state()
    torch_state = torch.get_rng_state()
    everything()
    assert torch.equal(torch_state, torch.get_rng_state())
    numpy_after: Any = np.random.get_state()
    assert (numpy_state[1] == numpy_after[1]).all()


def test_nothing_is_left_on_the_cpu_simulated_by_the_meta_device() -> None:
    # The meta device stands for a GPU: mixing it with tensors of the CPU fails likewise.
    changes = {**EVERYTHING, "equalization__prob": 0.0}
    augment = BatchAugmentation([settings(24, 2, **changes)])
    parameters = drawn(augment, patches())
    crops = augment.crop(list(patches()), parameters)
    for images in (patches().to("meta"), [crop.to("meta") for crop in crops]):
        views = augment(images, parameters)
        assert {view.device.type for view in views} == {"meta"}
