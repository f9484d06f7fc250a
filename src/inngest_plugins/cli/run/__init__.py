"""The parts of the ``run`` command: its events, its live progress, its JSON."""
