"""Trainings as processes: what is to be trained, how long that takes, how far it has come.

Both the reproduction of the paper and the making of a release train by it.
"""
