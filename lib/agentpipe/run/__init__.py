"""A task's script: how it is started, watched and ended."""
