"""`vitral data` and its subcommands."""
