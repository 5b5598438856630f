"""The commands: a module each, named as the command."""

import _signal

# before a command imports anything: until its handlers stand, Ctrl-C simply ends it, without a traceback
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)
