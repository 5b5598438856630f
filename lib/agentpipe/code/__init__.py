"""A task's code: captured where it is written, and as mirror, checkout, submodules and diff where it runs."""
