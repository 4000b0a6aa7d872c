"""The errors that are the user's to mend; an entry point prints one as one line.

Everything else that is raised is a fault of ours and keeps its stack.
"""


class SettingsError(ValueError):
    """The command line or a config is at fault, or names what is not there: exit code 2."""


class DataError(ValueError):
    """A table, an image, a record or a prediction is at fault: exit code 1."""
