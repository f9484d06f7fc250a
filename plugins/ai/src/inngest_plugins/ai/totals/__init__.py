"""What a run has used: known to its requests, told to the engine."""
