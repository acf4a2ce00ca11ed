"""What networks answer for a data set: its folder, the metrics on it, and its fusion."""
