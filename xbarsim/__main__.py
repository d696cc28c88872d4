"""``python -m xbarsim``: the command line without its script."""

from xbarsim.cli import main

if __name__ == "__main__":
    main()
