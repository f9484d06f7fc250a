"""What the engine knows of functions: their configuration and their expressions."""
