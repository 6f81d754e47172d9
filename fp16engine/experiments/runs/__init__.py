"""Runs of a study: what defines one, who owns it, how long it takes, what it left on disk."""
