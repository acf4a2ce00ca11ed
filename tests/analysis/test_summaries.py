import io

import numpy as np
from PIL import Image

from dermfuse.analysis.summaries import draw_thumbnail


def test_a_thumbnail_is_small_and_keeps_the_aspect() -> None:
    image = np.zeros((600, 1200, 3), np.uint8)
    thumbnail = draw_thumbnail(image, np.zeros((600, 1200), bool))
    assert thumbnail[:2] == b"\xff\xd8"
    with Image.open(io.BytesIO(thumbnail)) as small:
        assert small.size == (160, 80)
