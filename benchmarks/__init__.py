"""How fast dermfuse trains, analyses, serves and runs in a browser, on the machine at hand.

Run from a source checkout: ``python -m benchmarks --help``, or ``make bench``.
"""
