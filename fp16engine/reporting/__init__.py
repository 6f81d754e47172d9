"""What a run writes and shows: history, metrics, progress, live view, atomic files, interruption."""
