"""A task's Python: its interpreter, what it asks to be installed, the cache of bases, the overlay over one."""
