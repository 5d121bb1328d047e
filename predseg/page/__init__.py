"""The page of `predseg serve`: segments, customers and rules, to look at in a browser."""
