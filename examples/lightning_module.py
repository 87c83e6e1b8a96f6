"""Barlow Twins over four views in a LightningModule: ``python examples/lightning_module.py``."""

import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from mixbt_plugin.losses import MultiViewBarlowTwinsLoss

TRANSFORM = v2.Compose([v2.RandomResizedCrop(8, scale=(0.5, 1.0)), v2.RandomRotation(15)])


class Views(Dataset[list[Tensor]]):
    """Four views of each digit."""

    images = torch.from_numpy(load_digits().images[:512]).float().unsqueeze(1) / 16

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> list[Tensor]:
        return [TRANSFORM(self.images[i]) for _ in range(4)]


class BarlowTwins(LightningModule):
    """A small network, and the loss; on several devices it is that of the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            *(nn.Flatten(), nn.Linear(64, 256), nn.BatchNorm1d(256), nn.ReLU()),
            nn.Linear(256, 64),
        )
        self.criterion = MultiViewBarlowTwinsLoss(lamb=0.02)

    def training_step(self, views: list[Tensor], batch_idx: int) -> Tensor:
        """The loss of the views, (N, 1, 8, 8) each."""
        terms = self.criterion.terms([self.network(view) for view in views])
        self.log_dict({"on_diag": terms.on_diag, "off_diag": terms.off_diag}, on_epoch=True)
        return terms.loss

    def on_train_epoch_end(self) -> None:
        """Prints the mean of the epoch."""
        mean = self.trainer.callback_metrics["on_diag_epoch"]
        print(f"epoch {self.current_epoch}, on_diag {mean:.2f}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


if __name__ == "__main__":
    torch.manual_seed(0)
    # An incomplete last batch is left out: processes must have equally many rows.
    loader = DataLoader(Views(), batch_size=128, shuffle=True, drop_last=True)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(BarlowTwins(), loader)
