"""Where a task runs: on this machine, or in a place that is entered through a prefix (a container, a namespace)."""
