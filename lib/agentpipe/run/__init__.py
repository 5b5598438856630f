"""A task's script: how it is started, watched, reported and ended."""
