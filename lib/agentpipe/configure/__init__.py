"""agent-config: the file that init writes, and what check looks at."""
