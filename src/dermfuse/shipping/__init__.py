"""From trained runs to a release: exported, calibrated, measured out of fold, described."""
