"""Events by which an agent asks, and waits for an answer: approvals, and answers from outside."""
