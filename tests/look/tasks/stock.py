import sys

print("31 articles", flush=True)
sys.exit("no price for article 7")
