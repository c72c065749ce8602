"""Other places that the figures of a run go to: one file each."""
