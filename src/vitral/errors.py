"""The one kind of error that a user can mend."""

__all__ = ["UserError"]


class UserError(ValueError):
    """An input is wrong: one sentence that names the problem and the fix.

    The command line prints the sentence and exits with code 2. Any other ValueError is a bug and shows its traceback.
    """
