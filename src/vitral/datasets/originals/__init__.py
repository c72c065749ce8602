"""Data sets in the files that their authors gave out; nothing is unpickled."""
