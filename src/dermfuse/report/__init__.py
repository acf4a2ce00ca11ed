"""Result pages: one self-contained HTML file, readable offline, in light and in dark.

The names of numbers stand here, the same in every output; docs/analysis.md lists them.
"""

PROBABILITY = "probability of melanoma"
"""``malignant_probability``: calibrated, of all networks and looks together."""
LESION_SHARE = "lesion share of the frame"
"""``lesion_area_fraction``: of all pixels of the mask."""
WITHHELD = "withheld"
"""In place of a call: the image is unlike those the networks learnt from."""
UNLIKE = "unlike the images learnt from"
"""``dermoscopy`` is false: the image is farther from them than the release allows."""

MISSED = "withheld malignant images counted as missed"
"""Names the second sensitivity, which is reported where images are withheld."""

METRICS = {
    "average_precision": "average precision",
    "auc": "AUC",
    "auc_delong": "AUC (DeLong)",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "expected_calibration_error": "calibration error",
    "brier_score": "Brier score",
    "jaccard": "Jaccard",
    "dice": "Dice",
    "thresholded_jaccard": "Jaccard, 0 below 0.65",
    "pooled_jaccard": "Jaccard, pooled pixels",
}
"""What each metric of an evaluation or a release is called."""


def say_probability(value: float | None) -> str:
    """Returns a probability with three decimals, or that it is withheld.

    Example:
        >>> say_probability(0.09649), say_probability(None)
        ('0.096', 'withheld')
    """
    return WITHHELD if value is None else f"{value:.3f}"


def say_share(value: float | None) -> str:
    """Returns a share in percent with one decimal, or that it is withheld.

    Example:
        >>> say_share(0.31349), say_share(None)
        ('31.3 %', 'withheld')
    """
    return WITHHELD if value is None else f"{100 * value:.1f} %"
