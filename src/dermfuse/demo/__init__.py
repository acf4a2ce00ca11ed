"""What dermfuse does, on drawn images: a first analysis, and the whole line in small.

``analyze_examples`` shows the networks that ship, ``line.run_line`` trains some of its own.
"""

from dermfuse.demo.examples import DemoReport, analyze_examples, example_images

__all__ = ["DemoReport", "analyze_examples", "example_images"]
