"""The paper's figures, drawn from runs and predictions: numbers and pixels in, pictures out."""
