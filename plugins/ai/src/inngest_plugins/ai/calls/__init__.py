"""What one call to a model is, what it costs, and which attempt of a step made it."""
