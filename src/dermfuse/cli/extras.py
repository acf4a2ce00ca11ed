"""The core installs without torch: commands that need it say so in one line."""

from importlib.util import find_spec

from dermfuse.errors import DependencyError

_TRAIN_PACKAGES = ("torch", "lightning", "safetensors", "tensorboard")


def require_train_extra(command: str) -> None:
    """Raises DependencyError if what training needs is not installed; imports none of it.

    Args:
        command: Who asks, e.g. ``dermfuse train``.
    """
    missing = [name for name in _TRAIN_PACKAGES if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{command} needs {', '.join(missing)}, not installed here",
            action="Install with: pip install 'dermfuse[train]'",
        )
