"""The networks of a release behind HTTP: ``dermfuse serve``.

An upload is read into memory (``forms``), waits for a thread (``queue``), is analysed and
answered (``service``), and is forgotten: nothing of it is stored or logged. Everything here needs
the extra ``serve`` and nothing needs torch.
"""
