"""`python -m clan` is `clan`."""

from clan.cli import main

if __name__ == "__main__":
    main()
