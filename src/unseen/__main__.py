"""`python -m unseen` is `unseen`."""

from unseen.cli import main

raise SystemExit(main())
