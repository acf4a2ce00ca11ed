"""Evaluation of predictions folders: the challenge's metrics, intervals and paired tests."""
