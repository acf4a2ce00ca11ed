"""What ships: the networks of a release, how their answers are fused, calibrated and called.

Nothing here, and nothing that it imports, needs torch.
"""
