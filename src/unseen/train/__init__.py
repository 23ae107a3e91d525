"""Learning: the only room that imports Lightning."""
