"""python -m understudy"""

from understudy.cli import entry

entry()
