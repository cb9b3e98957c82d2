"""``python -m lightcluster.step NAME …``, what Snakemake calls: the fork server does it, if any."""

from lightcluster.delegation import delegate

if __name__ == "__main__":
    delegate()
    from lightcluster.step.commands import main

    main()
