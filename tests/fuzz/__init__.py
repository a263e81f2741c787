"""Random input for each parser of other people's text: `python -m tests.fuzz NAME --minutes 10`."""
