"""Latent segments: groups of customers that are in the data, with a name, a profile and a short rule for each."""
