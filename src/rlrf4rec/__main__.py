"""``python -m rlrf4rec`` is the command line."""

from rlrf4rec.cli import main

# Worker processes import this file again, under another name.
if __name__ == "__main__":
    main()
