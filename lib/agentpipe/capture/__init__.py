"""A task's code where it is written: repository, commit, changes and requirements, for agent-task enqueue."""
