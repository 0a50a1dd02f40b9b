"""`python -m tarmac.supervisor`."""

import sys

from tarmac.supervisor import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
