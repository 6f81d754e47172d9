"""Everything that wants to be known of a GPU, in one command: python benchmarks/gpu_check (docs/gpu.md)."""
