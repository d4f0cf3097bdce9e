"""The one exception for a user's mistake."""


class UserError(Exception):
    """Something the user gave cannot be used.

    The message is one line that names the file or setting, the value found and the rule it
    breaks. Commands print it after ``error:`` and exit with code 2; nobody sees a traceback.
    """
