"""Options, variables, clearml.conf and pip's configuration: what is set, and where it came from."""
