"""Many views of a batch of images at once, on tensors, with solo-learn's distributions.

A view is drawn (`parameters`), cut out and resized (`resampling`), changed in colour (`color`) and
blurred (`blur`); `augmentation` puts them together.
"""

from mixbt_plugin.views.augmentation import BatchAugmentation
from mixbt_plugin.views.parameters import ViewParameters
from mixbt_plugin.views.view_settings import ViewSettings

__all__ = ["BatchAugmentation", "ViewParameters", "ViewSettings"]
