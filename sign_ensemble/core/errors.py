"""The exception for a user's mistake."""


class UserError(Exception):
    """A file, setting or argument of the user cannot be used.

    The message is one line that names it, its value and the rule it breaks. Commands print it after
    ``error:``, without a traceback, and exit with code 2.
    """
