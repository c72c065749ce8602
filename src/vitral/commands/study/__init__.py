"""`vitral study` and its actions."""
