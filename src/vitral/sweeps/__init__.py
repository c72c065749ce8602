"""Many runs of one recipe, and finished runs side by side."""
