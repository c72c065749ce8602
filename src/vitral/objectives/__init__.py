"""What a step learns: one file each."""
