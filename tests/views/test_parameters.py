"""What is drawn has the distribution of torchvision's own draws: two samples of fixed seeds.

Kolmogorov and Smirnov's test at the level 1e-3 compares whole distributions; a deviation of some
hundredths in a factor or a probability fails.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest, chisquare, ks_2samp, kstest
from torchvision import transforms

from mixbt_plugin.views.parameters import NO_HUE, NO_JITTER, ViewParameters, draw_parameters
from tests.views.pipelines import EVERYTHING, settings

COUNT = 4000
LEVEL = 1e-3


def drawn(size: tuple[int, int] = (32, 32), count: int = COUNT, **changes: Any) -> ViewParameters:
    sizes = np.full(count, size[0]), np.full(count, size[1])
    return draw_parameters(settings(**changes), *sizes, np.random.default_rng(0))


def torchvision_boxes(height: int, width: int, scale: tuple[float, float]) -> Any:
    torch.manual_seed(0)
    image = Image.new("RGB", (width, height))
    crop = transforms.RandomResizedCrop(8, scale)
    return np.array(
        [crop.get_params(image, list(crop.scale), list(crop.ratio)) for _ in range(COUNT)]
    )


@pytest.mark.parametrize("height,width", [(32, 32), (96, 96), (60, 45), (300, 40), (40, 300)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.3, 0.5)])
def test_boxes(height: int, width: int, scale: tuple[float, float]) -> None:
    """The narrow images need the central crop that follows ten failed tries."""
    views = drawn((height, width), rrc__crop_min_scale=scale[0], rrc__crop_max_scale=scale[1])
    ours, theirs = views.box, torchvision_boxes(height, width, scale)
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > LEVEL
    quantities = (
        lambda box: box[:, 2] * box[:, 3] / (height * width),
        lambda box: np.log(box[:, 3] / box[:, 2]),
        lambda box: box[:, 0] + box[:, 2] / 2,
        lambda box: box[:, 1] + box[:, 3] / 2,
    )
    for quantity in quantities:
        assert ks_2samp(quantity(ours), quantity(theirs)).pvalue > LEVEL
        for moment in (1, 2):
            means = [(quantity(box) ** moment).mean() for box in (ours, theirs)]
            spread = (quantity(theirs) ** moment).std() * (2 / COUNT) ** 0.5
            assert abs(means[0] - means[1]) <= 4 * spread
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= (height, width)).all()


def test_impossible_crops_are_central_as_torchvisions() -> None:
    views = drawn((300, 40), count=1, rrc__crop_min_scale=0.99)
    assert views.box[0].tolist() == torchvision_boxes(300, 40, (0.99, 1.0))[0].tolist()


def test_factors_and_their_order() -> None:
    amounts: dict[str, Any] = {"brightness": 0.4, "contrast": 1.3, "saturation": 0.2, "hue": 0.1}
    views = drawn(**{f"color_jitter__{k}": v for k, v in amounts.items()}, color_jitter__prob=1)
    jitter = transforms.ColorJitter(**amounts)
    torch.manual_seed(0)
    theirs = [
        jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        for _ in range(COUNT)
    ]
    for column in range(4):
        values = [params[column + 1] for params in theirs]
        assert ks_2samp(views.factors[:, column], values).pvalue > LEVEL
    orders = Counter(map(tuple, views.order.tolist()))
    assert len(orders) == 24
    assert chisquare(list(orders.values())).pvalue > LEVEL
    assert Counter(tuple(params[0].tolist()) for params in theirs).keys() == orders.keys()
    turns = (views.order == 3).argmax(axis=1)
    assert (views.hue_turn == turns).all()
    assert (np.diff(views.hue_turn) >= 0).all()


def test_probabilities() -> None:
    probabilities: dict[str, Any] = {
        **EVERYTHING,
        "equalization__prob": 0.4,
        "grayscale__prob": 0.3,
    }
    views = drawn(**probabilities)
    happened = {
        "color_jitter__prob": views.hue_turn != NO_JITTER,
        "grayscale__prob": views.gray,
        "gaussian_blur__prob": views.sigma > 0,
        "solarization__prob": views.solarize,
        "equalization__prob": views.equalize,
        "horizontal_flip__prob": views.flip,
    }
    assert happened.keys() == probabilities.keys()
    for key, probability in probabilities.items():
        count = int(happened[key].sum())
        assert binomtest(count, COUNT, probability).pvalue > LEVEL, key
    # Drawn independently of each other, as in a chain of RandomApply.
    correlations = np.corrcoef(np.stack(list(happened.values())).astype(float))
    assert np.abs(correlations - np.eye(len(happened))).max() < 4 / COUNT**0.5


def test_radius_of_the_blur() -> None:
    random.seed(0)
    sigma = drawn(gaussian_blur__prob=1.0).sigma
    assert ks_2samp(sigma, [random.uniform(0.1, 2.0) for _ in range(COUNT)]).pvalue > LEVEL


def test_what_is_never_and_what_is_always() -> None:
    never = drawn()
    assert (never.hue_turn == NO_JITTER).all()
    assert not (never.gray.any() or never.sigma.any() or never.solarize.any() or never.flip.any())
    certain: dict[str, Any] = dict.fromkeys(EVERYTHING, 1.0)
    always = drawn(**certain, color_jitter__hue=0.0)
    assert (always.hue_turn == NO_HUE).all()
    assert always.gray.all() and always.sigma.all() and always.equalize.all() and always.flip.all()
    whole = drawn((20, 30), rrc__enabled=False)
    assert (whole.box == (0, 0, 20, 30)).all()


def test_views_are_drawn_independently_of_each_other() -> None:
    views = drawn(count=COUNT // 2, num_crops=2)
    area = (views.box[:, 2] * views.box[:, 3])[views.view.argsort()]
    first, second = area.reshape(2, -1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / (COUNT / 2) ** 0.5
    assert kstest(first, second).pvalue > LEVEL
    assert (views.image[views.view.argsort()].reshape(2, -1) == np.arange(COUNT // 2)).all()
