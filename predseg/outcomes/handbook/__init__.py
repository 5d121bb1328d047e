"""A project explained to colleagues: its segments, models and data, and what rests on what, as one HTML file."""
