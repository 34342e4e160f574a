"""The model organism: world, corpus, training, measurements."""
