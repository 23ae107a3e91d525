"""Exit codes of `unseen`."""

OK = 0
FAILED = 1  # something could not be inspected
USAGE = 2  # wrong words, or input that cannot be used
FAKE = 3  # only with `detect --fail-on-fake`
INTERRUPTED = 130
