"""``python -m lightcluster``."""

from lightcluster.cli import main

if __name__ == "__main__":
    main()
