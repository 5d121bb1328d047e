"""What will happen: features, labels, training, evaluation, saved models and scores."""
