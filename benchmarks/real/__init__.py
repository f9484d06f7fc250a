"""What `real_engine.py` is made of: services that can go away, and what is counted afterwards."""
