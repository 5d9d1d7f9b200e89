"""Makes ``python -m benchmarks`` run them."""

from benchmarks.run import main

main()
