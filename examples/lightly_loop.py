"""lightly's Barlow Twins example with our loss, on digits: ``python examples/lightly_loop.py``.

But for the data, a small network and its optimiser two lines differ; theirs are beside them.
"""

import torch
from lightly.models.modules import BarlowTwinsProjectionHead
from lightly.transforms.byol_transform import (
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
)
from lightning.pytorch import seed_everything
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms.functional import to_pil_image

from mixbt_plugin.losses import BarlowTwinsLoss  # from lightly.loss import BarlowTwinsLoss


class BarlowTwins(nn.Module):
    """A backbone with a projector."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection_head = BarlowTwinsProjectionHead(16 * 49, 128, 64)

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, 3, H, W)."""
        z: Tensor = self.projection_head(self.backbone(x).flatten(start_dim=1))
        return z


seed_everything(0)
model = BarlowTwins(nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU()))

transform = BYOLTransform(
    view_1_transform=BYOLView1Transform(input_size=16, gaussian_blur=0.0),
    view_2_transform=BYOLView2Transform(input_size=16, gaussian_blur=0.0),
)
digits = torch.from_numpy(load_digits().images[:256]).float() / 16
dataset = [to_pil_image(digit).convert("RGB") for digit in digits]
dataloader = DataLoader(
    dataset,  # type: ignore[arg-type]
    batch_size=64,
    shuffle=True,
    drop_last=True,
    collate_fn=lambda images: [torch.stack(x) for x in zip(*map(transform, images))],
)

criterion = BarlowTwinsLoss(lamb=5e-3)  # BarlowTwinsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

for epoch in range(3):
    total_loss = 0.0
    for x_a, x_b in dataloader:
        loss = criterion(model(x_a), model(x_b))
        total_loss += loss.item()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch}, loss {total_loss / len(dataloader):.2f}")
