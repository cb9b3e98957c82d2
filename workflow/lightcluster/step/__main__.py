"""``python -m lightcluster.step NAME …``, called by Snakemake; uses the fork server if any."""

from lightcluster.delegation import delegate

if __name__ == "__main__":
    delegate()
    from lightcluster.step.commands import main

    main()
