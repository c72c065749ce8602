"""vtab-mini: a suite of small tasks, most of them drawn, that measures transfer in minutes without downloads."""
