"""agent-task: what people look at, change and ask of tasks."""
