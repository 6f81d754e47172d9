"""GPUs: CuPy's and the simulated one, and what the two share: captured steps, arenas, own operations."""
