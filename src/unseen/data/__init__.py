"""From face crops and their manifest to batches: numpy in workers, torch only where a batch is born."""
