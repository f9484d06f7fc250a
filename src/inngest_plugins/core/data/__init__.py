"""What hooks see: the call, its steps, outcomes, sends and memos."""
