"""Our loss with lightly's transform and head: ``python examples/lightly_loop.py``."""

import torch
from lightly.models.modules import BarlowTwinsProjectionHead
from lightly.transforms import SimCLRTransform
from sklearn.datasets import load_digits
from torch import nn
from torchvision.transforms.functional import to_pil_image

from mixbt_plugin.losses import BarlowTwinsLoss  # lightly: from lightly.loss import BarlowTwinsLoss

torch.manual_seed(0)
digits = torch.from_numpy(load_digits().images[:256]).float() / 16
images = [to_pil_image(digit).convert("RGB") for digit in digits]
transform = SimCLRTransform(input_size=16)

backbone = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Flatten())
model = nn.Sequential(backbone, BarlowTwinsProjectionHead(16 * 49, 128, 64))
criterion = BarlowTwinsLoss(lamb=5e-3)  # lightly: BarlowTwinsLoss(lambda_param=5e-3)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for epoch in range(3):
    total = 0.0
    batches = torch.randperm(len(images)).split(64)
    for chosen in batches:
        x_a, x_b = map(torch.stack, zip(*(transform(images[i]) for i in chosen)))
        loss = criterion(model(x_a), model(x_b))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}, loss {total / len(batches):.2f}")
