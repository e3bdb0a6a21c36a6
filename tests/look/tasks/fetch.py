import os
import sys
import time

what, count = sys.argv[1:]
time.sleep(0.1 if what == "orders" else 0.3)
if what == "rates" and os.environ["MINIFLOW_ATTEMPT"] == "1":
    print("connection reset by rates.example", file=sys.stderr)
    sys.exit(75)
print(f"{count} {what}")
