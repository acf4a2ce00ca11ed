"""Analysis of one image without networks: measures, quality, appearance, overlays.

NumPy and Pillow alone; nothing here is a diagnosis (``dermfuse.runs.NOTICE``).
"""
