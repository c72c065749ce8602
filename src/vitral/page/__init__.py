"""The page: its HTML, style and scripts, for `vitral serve` and for `vitral export --to html`."""
