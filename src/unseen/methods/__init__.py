"""One published method a file; each reads beside its paper."""
