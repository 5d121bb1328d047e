"""The figures of SECURITY.md: attacks and accidents in large numbers, and how many of them got through."""
