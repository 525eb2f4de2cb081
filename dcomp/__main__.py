"""`python -m dcomp` is `dcomp`."""

from dcomp.cli import main

if __name__ == "__main__":
    main()
