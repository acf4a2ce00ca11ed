"""What models predict: folders of scores and masks, their fusion, and the counting metrics."""
