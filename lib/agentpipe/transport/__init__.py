"""The ClearML API and its files: in process, or over HTTP."""
