"""Data augmentation: sampled by arithmetic on (seed, epoch, sample), applied to whole batches on the device."""
