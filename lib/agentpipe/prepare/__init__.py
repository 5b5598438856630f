"""What agent-prepare leaves besides a task that is ready to run: a folder, an image, filled caches."""
