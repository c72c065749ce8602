"""What a checkpoint is worth: one file each."""
