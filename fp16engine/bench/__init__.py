"""Benchmarks: a training step and every kernel, measured next to their PyTorch peers in one run."""
