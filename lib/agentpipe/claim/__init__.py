"""Whose task it is on this node: claims and their holders, what stands on disk of an attempt, workers' names."""
