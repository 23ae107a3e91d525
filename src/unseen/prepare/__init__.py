"""Files to labelled face crops: many at once, resumable, every drop with its reason."""
