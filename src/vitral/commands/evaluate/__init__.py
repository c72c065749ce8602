"""`vitral eval` and its suites."""
