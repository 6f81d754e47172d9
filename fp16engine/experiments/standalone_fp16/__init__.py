"""The standalone FP16 study (arXiv 2305.10947): its tables and figures, and the figures that it printed."""
