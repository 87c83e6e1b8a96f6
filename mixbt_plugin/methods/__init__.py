"""The methods, as classes on the host's ``BaseMethod``, one file each, and their evaluation."""

from mixbt_plugin.methods.base import ProjectorMethod
from mixbt_plugin.methods.baselines import BarlowTwins, VICReg
from mixbt_plugin.methods.hsic_ssl import HSICSSL
from mixbt_plugin.methods.linear import LinearEvaluation
from mixbt_plugin.methods.mixed_barlow_twins import MixedBarlowTwins
from mixbt_plugin.methods.multiaug_barlow_twins import MultiAugBarlowTwins
from mixbt_plugin.methods.multiaug_mixbt import MultiAugMixedBarlowTwins
from mixbt_plugin.methods.multiaug_vicreg import MultiAugVICReg

__all__ = [
    "HSICSSL",
    "BarlowTwins",
    "LinearEvaluation",
    "MixedBarlowTwins",
    "MultiAugBarlowTwins",
    "MultiAugMixedBarlowTwins",
    "MultiAugVICReg",
    "ProjectorMethod",
    "VICReg",
]
