"""How the engine handles steps: every op that an app can report, memos, retries."""
