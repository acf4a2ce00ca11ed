"""dermfuse finds skin cancer in dermoscopy images with ensembles of lightweight networks.

It says how likely a lesion is melanoma and outlines the lesion: the system of Wei, Ding and
Hu (IEEE Access 2020), trained, predicted and evaluated by one command each. Research
software, not a medical device.
"""

from dermfuse.config import Config, find_config, load_preset, preset_names
from dermfuse.errors import DermfuseError

__version__ = "0.1.0"
__all__ = [
    "Config",
    "DermfuseError",
    "__version__",
    "find_config",
    "load_preset",
    "preset_names",
]
