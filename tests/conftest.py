"""For all tests."""

import signal

# What a shell runs in its background ignores Ctrl-C, and so does all that it starts in turn, which
# some tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
