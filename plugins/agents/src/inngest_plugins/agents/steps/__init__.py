"""Runs what an agent does as steps: their ids, their results, their errors, their groups."""
