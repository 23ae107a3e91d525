"""Where trained detectors look: maps of a zoo for every face, their shares, and what erasing them does."""
