"""The parts of `real_engine.py`: services that can go away, workers, and the counts at the end."""
