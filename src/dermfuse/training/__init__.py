"""Training and prediction; everything here needs torch (the extra ``train``)."""

from dermfuse.training.prediction import PredictionReport, predict
from dermfuse.training.train import TrainingReport, train

__all__ = ["PredictionReport", "TrainingReport", "predict", "train"]
