"""The program, which runs without the package around it: to import that takes longer than to read a file."""

import os
import sys
from importlib import import_module

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(sys.argv[1])))
    import_module("tensor_files.program").main()
