"""Options, variables and clearml.conf: what is set, where it came from, whether it works."""
