"""``python -m revstep`` is the command line."""

from revstep.cli import main

if __name__ == "__main__":
    main()
