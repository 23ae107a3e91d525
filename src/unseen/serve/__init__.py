"""Files over HTTP, verdicts back: an API and a page, for this machine or behind a token."""
