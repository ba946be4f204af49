"""The one shape of a user's error: which field, what it was, what the rule is, what to do."""


def invalid(field: str, value: object, rule: str, fix: str) -> ValueError:
    """Build the error that a user reads when an input breaks a rule.

    Args:
        field: The setting, file or column at fault, as the user wrote it.
        value: What was found there.
        rule: What has to hold.
        fix: What to do about it, in the imperative.

    Returns:
        A `ValueError` to be raised by the caller, so that the traceback starts at the check.

    Example:
        >>> str(invalid("stage.points", -1, "must be 0 or more", "set it to 0 to send boxes only"))
        'stage.points = -1: must be 0 or more. Fix: set it to 0 to send boxes only.'
    """
    shown = repr(value)
    if len(shown) > 200:
        shown = shown[:197] + "..."
    return ValueError(f"{field} = {shown}: {rule.rstrip('.')}. Fix: {fix.rstrip('.')}.")
