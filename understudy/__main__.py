"""python -m understudy"""

from understudy.cli.main import entry

entry()
