"""What Pillow reads wrongly, not at all, or without a word: told apart and decoded here.

    kinds     what a file is that is not read, and what to do about it
    tiff      TIFF by its own depth, planes, palette and photometric interpretation
    png       PNG with a transparent colour, and colours of 16 bits
    samples   pixels at their file's own depth, for masks
    jpeg      a JPEG's header: coding, depth, colours
    entropy   whether a JPEG's coded data is whole

``dermfuse.preprocess`` and ``dermfuse.masks`` use it for files, ``dermfuse.analysis.dicom`` the
last two for what a DICOM file embeds.
"""
