"""The executor: how a run goes on, with events, retries and time."""
