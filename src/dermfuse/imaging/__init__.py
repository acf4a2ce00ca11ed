"""Pixels: reading image files within limits, measuring lesions and images, drawing on them."""
