"""agent-pull: which queues are asked and when, how it waits, and what is recovered before."""
