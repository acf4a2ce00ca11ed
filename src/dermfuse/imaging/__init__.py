"""Pixels: files to upright RGB, masks, shapes, colours, quality, and what is drawn over them."""
