"""In the moment: events come in, segments change, whoever asks is answered."""
