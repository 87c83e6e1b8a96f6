"""Mixed Barlow Twins, multi-augmentation Barlow Twins and VICReg, and HSIC-SSL for solo-learn."""

from mixbt_plugin.registry import MethodInfo, list_methods, register, register_method

__version__ = "0.1.0"

__all__ = ["MethodInfo", "__version__", "list_methods", "register", "register_method"]
