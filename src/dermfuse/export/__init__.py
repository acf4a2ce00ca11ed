"""Trained networks as ONNX files with their cards, in float32 and in 8 bits; needs torch."""

from dermfuse.export.images import load_calibration
from dermfuse.export.network import export_network
from dermfuse.export.quantization import quantize_network
from dermfuse.export.runs import ExportReport, export_runs

__all__ = [
    "ExportReport",
    "export_network",
    "export_runs",
    "load_calibration",
    "quantize_network",
]
