"""``python -m inngest_plugins.cli``: the same program as the ``inngest-plugins`` script."""

import sys

from inngest_plugins.cli import main

if __name__ == "__main__":
    sys.exit(main())
