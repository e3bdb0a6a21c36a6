import sys
import time

print("converting 1204 orders")
time.sleep(0.2)
if len(sys.argv) == 1:
    print("no rate for GBP", file=sys.stderr)
    sys.exit(1)
