"""Block floating point and Accuracy Boosters (arXiv 1804.01526, 2211.10737): tables, figures, area."""
