"""The file that a Flex Template's launcher runs: /template/launch.py in docker/beam.Dockerfile."""

import sys

from beam_jobs.template import main

if __name__ == "__main__":
    sys.exit(main())
