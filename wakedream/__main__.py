"""`python -m wakedream`, which is what `torchrun -m wakedream` starts."""

import sys

from wakedream.cli import main

sys.exit(main())
