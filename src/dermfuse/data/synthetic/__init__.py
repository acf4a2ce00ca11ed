"""Synthetic dermoscopy: drawn lesions with masks, labels and the interferences of Fig. 1.

The images are drawn by NumPy and Pillow from a seed; none is derived from a photograph. They
serve to try every command without data. What a network learns from them says nothing about
skin.
"""

from dermfuse.data.synthetic.dataset import (
    FIRST_TEST_ID,
    FIRST_TRAIN_ID,
    SynthesisReport,
    synthesize_isic2016,
)
from dermfuse.data.synthetic.drawing import SyntheticLesion, draw_lesion
from dermfuse.data.synthetic.interference import Interference

__all__ = [
    "FIRST_TEST_ID",
    "FIRST_TRAIN_ID",
    "Interference",
    "SynthesisReport",
    "SyntheticLesion",
    "draw_lesion",
    "synthesize_isic2016",
]
