"""Mixed Barlow Twins that mixes a part of the batch: a third forward of fewer images."""

from mixbt_plugin.losses import MixedBarlowTwinsTerms
from mixbt_plugin.methods import MixedBarlowTwins
from mixbt_plugin.registry import register_method
from mixbt_plugin.settings import setting


class MixedShareSettings(MixedBarlowTwins.Settings):
    """Keys of ``method_kwargs`` for ``mixed_share``: those of ``mixbt`` and one more."""

    mix_share: float = setting(
        0.5, help="share of the batch that is mixed", source="this example", gt=0, le=1
    )


@register_method("mixed_share", paper="2312.02151", views=2)
class MixedShare(MixedBarlowTwins):
    """Barlow Twins with a regulariser on linear mixtures of a share of the images."""

    Settings = MixedShareSettings

    def mixture(self, views, batch_idx):
        """Embeddings of the mixture of the first images of a batch with each other."""
        mixed = max(2, round(self.settings.mix_share * len(views[0])))
        return super().mixture([view[:mixed] for view in views], batch_idx)

    def loss_with_mixing(self, zs, z_m, mixing, lamb_reg):
        """Barlow Twins of all rows, and the regulariser of those that were mixed."""
        whole = self.loss_without_mixing(zs)
        part = super().loss_with_mixing([z[: len(z_m)] for z in zs], z_m, mixing, lamb_reg)
        loss = whole.loss + part.regularizer
        return MixedBarlowTwinsTerms(loss, whole.loss, part.regularizer, *whole[1:])
