"""Spectral contrastive learning (HaoChen et al., arXiv 2106.04156), a method of another package."""

from mixbt_plugin.methods import ProjectorMethod
from mixbt_plugin.registry import register_method


@register_method("spectral_contrastive", paper="2106.04156", views=2)
class SpectralContrastive(ProjectorMethod):
    """Draws views of one image together and those of different images to right angles."""

    def training_step(self, batch, batch_idx):
        """The method's loss plus the online classifier's."""
        out = super().training_step(batch, batch_idx)
        z_a, z_b = out["z"]
        n = len(z_a)
        products = z_a @ z_b.T
        together = -2 * products.diagonal().mean()
        apart = (products.square().sum() - products.diagonal().square().sum()) / (n * (n - 1))
        self.log_terms({"spectral_loss": together + apart, "together": together, "apart": apart})
        return together + apart + out["loss"]
