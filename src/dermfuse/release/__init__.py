"""What ships: the networks of a release, how their answers are fused, calibrated and called.

Nothing here, and nothing that it imports, needs torch.
"""

from dermfuse.release.cards import NetworkCard, read_card, write_card

__all__ = ["NetworkCard", "read_card", "write_card"]
