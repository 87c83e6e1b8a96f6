"""Measurements that anyone can repeat: ``python -m benchmarks.<name>`` in the project's folder."""
