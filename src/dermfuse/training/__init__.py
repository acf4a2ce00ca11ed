"""Training and prediction, one network or many; all but ``jobs`` needs torch, the extra train."""
