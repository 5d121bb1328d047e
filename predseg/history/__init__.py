"""What happened: sources are read, checked against their contract, de-duplicated and kept as one sorted events table."""
