"""Reports for people: views of a run, its story, the terminal and the page."""
