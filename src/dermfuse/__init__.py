"""dermfuse finds skin cancer in dermoscopy images with ensembles of lightweight networks.

It says how likely a lesion is melanoma and outlines the lesion: the system of Wei, Ding and
Hu (IEEE Access 2020), with trained networks that run anywhere, and every step that made them
one command each. Research software, not a medical device.

    >>> from dermfuse import Analyzer
    >>> Analyzer.__name__
    'Analyzer'
"""

import os
from typing import TYPE_CHECKING

from dermfuse.errors import DermfuseError

if TYPE_CHECKING:
    from dermfuse.analysis.analyzer import Analyzer
    from dermfuse.analysis.records import Analysis
    from dermfuse.config import Config, find_config, load_preset, preset_names

# Builds of ONNX Runtime report their use to their maker unless this is set before they load.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "Analysis",
    "Analyzer",
    "Config",
    "DermfuseError",
    "__version__",
    "find_config",
    "load_preset",
    "preset_names",
]

_LAZY = {
    "Analysis": "dermfuse.analysis.records",
    "Analyzer": "dermfuse.analysis.analyzer",
    **dict.fromkeys(("Config", "find_config", "load_preset", "preset_names"), "dermfuse.config"),
}


def __getattr__(name: str) -> object:
    """Loads what is asked for then: the command line and decoders start without the rest."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_LAZY[name]), name)
