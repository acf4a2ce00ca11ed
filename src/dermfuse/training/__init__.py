"""Training and prediction; everything here needs torch (``pip install 'dermfuse[train]'``)."""

from dermfuse.training.prediction import PredictionReport, predict
from dermfuse.training.train import TrainingReport, train

__all__ = ["PredictionReport", "TrainingReport", "predict", "train"]
