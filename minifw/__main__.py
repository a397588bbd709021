"""``python -m minifw``: the command line, where its script is not on the path."""

import sys

from minifw.testing.command_line import main

if __name__ == "__main__":
    sys.exit(main())
