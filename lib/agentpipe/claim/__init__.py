"""Whose task it is on this node: pulls, claims, what stands on disk of an attempt, and what is recovered of it."""
