"""What batchwright raises."""


class BatchwrightError(Exception):
    """What all errors of batchwright derive from. `str()` is the whole message with its remedy."""

    help: str = ""
    """What to do about it; empty where the message already says it."""


class ConfigError(BatchwrightError, ValueError):
    """A setting or an argument is wrong, or two of them contradict each other."""


class InputError(BatchwrightError):
    """The dataset cannot be used as it is, or the operating system refused something."""


class PlanError(BatchwrightError):
    """A plan is damaged, of a newer format, changed, or does not belong to this dataset."""


class BatchwrightWarning(UserWarning):
    """Something that should be known though a call goes on: what was left out, guessed or converted."""


for _error in (BatchwrightError, ConfigError, InputError, PlanError, BatchwrightWarning):
    _error.__module__ = "batchwright"
del _error
