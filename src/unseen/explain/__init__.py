"""Evidence that a person can look at: where a network looked, drawn on the picture it looked at."""
