"""What MiniFlow costs beside what it runs: `python -m benchmarks`; README.md in this folder says what is measured, and how."""
