"""Commands of the operator that have commands of their own."""
