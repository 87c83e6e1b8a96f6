"""Mixed Barlow Twins in a plain PyTorch loop: ``python examples/plain_loop.py``."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.transforms import v2

from mixbt_plugin.losses import MixedBarlowTwinsLoss
from mixbt_plugin.mixing import draw_mixing, mix_images

torch.manual_seed(0)
images = torch.from_numpy(load_digits().images[:512]).float().unsqueeze(1) / 16
transform = v2.Compose([v2.RandomResizedCrop(8, scale=(0.5, 1.0)), v2.RandomRotation(15)])


def view(batch: Tensor) -> Tensor:
    """Each image, augmented by itself."""
    return torch.stack([transform(image) for image in batch])


network = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten()),
    *(nn.Linear(16 * 64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64)),
)
criterion = MixedBarlowTwinsLoss(lamb=1 / 64, lamb_reg=1.0)
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)

for epoch in range(2):
    total = 0.0
    batches = torch.randperm(len(images)).split(128)
    for step, chosen in enumerate(batches):
        x_a, x_b = view(images[chosen]), view(images[chosen])
        mixing = draw_mixing(len(chosen), seed=(0, epoch, step))
        z_a, z_b = network(x_a), network(x_b)
        z_m = network(mix_images(x_a, x_b, mixing))
        loss = criterion(z_a, z_b, z_m, perm=mixing.perm, mix=mixing.coefficient)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}, loss {total / len(batches):.2f}")
