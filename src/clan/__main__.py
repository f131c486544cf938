"""`python -m clan` is `clan`."""

from clan.cli.main import main

if __name__ == "__main__":
    main()
