"""The ClearML API: in process, or over HTTP."""
