"""The ClearML API over one SQLite file.

`store` the file, `endpoints.call` the door, one module per service.
"""
