"""Events with which an agent asks and is answered: approvals, and answers from outside."""
