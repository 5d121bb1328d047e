"""Did it work: engagement, experiments, monitoring, and the report."""
