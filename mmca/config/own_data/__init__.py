"""A config for a data set of one's own: what is in the folder, what to train, the config's text."""
