"""Every error a user can cause, in one small tree.

    DermfuseError
    ├── ConfigError        a preset, a key or a value that cannot be used
    ├── DataError          a dataset folder, CSV or record that cannot be used
    │   └── ImageError     one image or mask file that cannot be used
    │       └── DecoderError   one that takes too much memory or time, or ends its decoder
    ├── WeightsError       a weight file that is missing, damaged or does not fit
    ├── RunError           a run folder that cannot be used
    ├── PredictionsError   a predictions folder that cannot be used
    ├── ReleaseError       a release folder, or a network in it, that cannot be used
    ├── TrainingError      a training that cannot continue (a loss that is not finite, say)
    ├── ExportError        a network that cannot be exported, or not without changing its answers
    ├── StorageError       a folder that cannot be written, a disk that is full
    └── DependencyError    an optional package that is not installed

The command line prints one as a single line and exits with 2. Anything else that is
raised is a fault of dermfuse itself: it keeps its traceback and exits with 1.
"""


class DermfuseError(Exception):
    """A user error with a message in three parts: found, expected, what to do.

    Args:
        found: What is wrong, as a clause without the closing full stop.
        expected: What was expected instead.
        action: What the user can do about it.

    The parts stay as attributes of the same names, for those who show them apart.

    Example:
        >>> str(DermfuseError("epochs is 0", expected="1 or more", action="Set train.epochs"))
        'epochs is 0. Expected: 1 or more. Set train.epochs.'
    """

    def __init__(self, found: str, *, expected: str = "", action: str = "") -> None:
        parts = [found, f"Expected: {expected}" if expected else "", action]
        super().__init__(" ".join(_sentence(part) for part in parts if part))
        self.found = found
        self.expected = expected
        self.action = action


def _sentence(part: str) -> str:
    """Returns a part in one line that ends with one full stop, or with its question mark."""
    text = " ".join(part.split()).rstrip(".")
    return text if text.endswith("?") else f"{text}."


def installing(extra: str) -> str:
    """Returns how an extra is installed, as an error's action: dermfuse lies on no package index.

    Example:
        >>> installing("serve")
        "Install in dermfuse's checkout with: pip install -e '.[serve]'"
    """
    return f"Install in dermfuse's checkout with: pip install -e '.[{extra}]'"


class ConfigError(DermfuseError):
    """A preset, a key or a value that cannot be used."""


class DataError(DermfuseError):
    """A dataset folder, CSV or record that cannot be used."""


class ImageError(DataError):
    """One image or mask file that cannot be used."""


class DecoderError(ImageError):
    """An image file that takes too much memory or time to decode, or ends what decodes it."""


class WeightsError(DermfuseError):
    """A weight file that is missing, damaged or does not fit the network."""


class RunError(DermfuseError):
    """A run folder that cannot be used."""


class PredictionsError(DermfuseError):
    """A predictions folder that cannot be used."""


class ReleaseError(DermfuseError):
    """A release folder, or a network in it, that cannot be used."""


class TrainingError(DermfuseError):
    """A training that cannot continue."""


class ExportError(DermfuseError):
    """A network that cannot be exported, or not without changing its answers."""


class StorageError(DermfuseError):
    """A folder that cannot be written, or a disk that is full."""


class DependencyError(DermfuseError):
    """An optional package that is not installed."""
