"""What can go wrong, and whether trying again can mend it.

Every message names what was expected, what was received and what to do, for the person who reads the task's log.
"""


class MenagerieError(Exception):
    """Base of the errors that Menagerie raises on purpose."""


class NoRetryError(MenagerieError):
    """A fault that trying again can't mend: a person has to change something first."""


class DataError(NoRetryError):
    """The photos, or a file made from them, are not what was expected."""


class ParameterError(NoRetryError):
    """A setting, a param or a table of `animals.toml` has a value that can't be used."""


class MissingWeightsError(NoRetryError):
    """The pretrained weights of a backbone are not on this machine and can't be fetched."""


class LostError(NoRetryError):
    """What an earlier run left in MLflow was deleted, damaged or replaced since."""


class ServiceError(MenagerieError):
    """A server (MLflow, Airflow) doesn't answer; it may answer later."""


class StorageError(MenagerieError):
    """The disk or the object store is full, can't be reached or refuses; that may be mended later."""
