"""``python -m lightcluster``."""

from lightcluster.forkserver import delegate

if __name__ == "__main__":
    delegate()
    from lightcluster.cli import main

    main()
