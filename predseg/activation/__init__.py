"""What we do about it: messages to those who enter and leave segments, each once, and to nobody who said no."""
