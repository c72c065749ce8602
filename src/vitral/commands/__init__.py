"""One module for each command: what it runs and prints. `arguments` has what it parses."""
