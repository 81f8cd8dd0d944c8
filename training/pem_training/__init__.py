"""Learning and measuring: losses, training, evaluation and drawn scenes for the PEM network."""
