"""How training images vary: drawn by arithmetic on (seed, epoch, sample), applied to whole batches on the device."""
