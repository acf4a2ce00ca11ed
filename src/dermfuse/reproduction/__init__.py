"""The whole paper from one command: every table, ours beside theirs, with intervals.

    OUT/configs/                the resolved configuration of each run
    OUT/runs/                   the run folders
    OUT/logs/                   the output of each training
    OUT/predictions/            of validation (out of fold, joined), of the test split, fused
    OUT/blind/                  test predictions for scoring elsewhere
    OUT/reproduction.json       every number of the report
    OUT/tables/*.csv            the same, a table each
    OUT/reproduction.md         the same, for documents
    OUT/report.html             the page

Read it from ``paper`` (the published numbers) over ``plan`` (which runs, which
``jobs`` trains) to ``harvest`` (their predictions), ``measurement`` (numbers), ``assembly``
(ours beside the paper's) and ``page`` (the report).
"""
