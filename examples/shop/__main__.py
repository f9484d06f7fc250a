"""``python -m examples.shop``: the demo, from a checkout."""

import sys

from .demo import demo

if __name__ == "__main__":
    sys.exit(demo(*sys.argv[1:]))
