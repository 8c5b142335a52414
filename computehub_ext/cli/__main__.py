"""``python -m computehub_ext.cli``."""

import sys

from computehub_ext.cli import main

sys.exit(main())
