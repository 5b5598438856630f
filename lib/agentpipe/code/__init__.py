"""A task's code where it runs: mirror, checkout, submodules, diff, and its entry point."""
