"""The commands: Hydra entry points around the methods."""
