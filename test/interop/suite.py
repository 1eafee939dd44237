"""Runs one file of tests beside this one and ends with a line that counts tests, not subtests.

One file to a process: generated stubs of one proto can't be loaded beside another library's stubs of the same.
"""

import logging
import pathlib
import sys
import unittest

# unittest runs asyncio in its debug mode, which remarks on every slow step.
logging.getLogger("asyncio").setLevel(logging.ERROR)
loader = unittest.TestLoader()
result = unittest.TextTestRunner(verbosity=1).run(loader.discover(str(pathlib.Path(__file__).parent), pattern=sys.argv[1]))
broken = {getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors}
print(f"python: {max(0, result.testsRun - len(broken))} passed, {len(broken)} failed", flush=True)
sys.exit(1 if broken else 0)
