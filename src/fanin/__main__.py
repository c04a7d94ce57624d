"""``python -m fanin`` is the ``fanin`` command."""

from fanin.cli.main import main

if __name__ == "__main__":
    main()
