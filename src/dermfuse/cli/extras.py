"""The core installs without torch and Matplotlib: commands that need them say so in one line."""

from importlib.util import find_spec

from dermfuse.errors import DependencyError, installing

_TRAIN_PACKAGES = ("torch", "lightning", "safetensors", "tensorboard")
_EXPORT_PACKAGES = (*_TRAIN_PACKAGES, "onnx", "onnxruntime")
_SERVE_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
_FIGURES_PACKAGES = ("matplotlib", "sklearn", "scipy")


def require_train_extra(command: str) -> None:
    """Raises DependencyError if what training needs is not installed; imports none of it.

    Args:
        command: Who asks, e.g. ``dermfuse train``.
    """
    _require(command, _TRAIN_PACKAGES, extra="train")


def require_export_extra(command: str) -> None:
    """Raises DependencyError if what an export needs is not installed; imports none of it.

    Args:
        command: Who asks, e.g. ``dermfuse export``.
    """
    _require(command, _EXPORT_PACKAGES, extra="export")


def require_figures_extra(command: str) -> None:
    """Raises DependencyError if what drawing needs is not installed; imports none of it.

    Args:
        command: Who asks, e.g. ``dermfuse figures``.
    """
    _require(command, _FIGURES_PACKAGES, extra="figures")


def require_serve_extra(command: str) -> None:
    """Raises DependencyError if what the server needs is not installed; imports none of it.

    Args:
        command: Who asks, e.g. ``dermfuse serve``.
    """
    _require(command, _SERVE_PACKAGES, extra="serve")


def _require(command: str, packages: tuple[str, ...], *, extra: str) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{command} needs {', '.join(missing)}, not installed here",
            action=installing(extra),
        )
