"""A release folder: networks as ONNX files, each with its card. Nothing here needs torch."""

from dermfuse.release.cards import NetworkCard, read_card, write_card

__all__ = ["NetworkCard", "read_card", "write_card"]
