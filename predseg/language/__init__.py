"""One language for features, labels and segment rules: time, measures, conditions, and the YAML they are written in."""
