"""An embedded suite of small tasks, most of them drawn, to tell in minutes what a model transfers to."""
