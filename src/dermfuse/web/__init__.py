"""The browser app: its build, and test vectors for whoever runs the networks elsewhere.

The app's own source lies in ``web/`` of a source checkout; it needs Node.js to be built and no
Python to run.
"""
