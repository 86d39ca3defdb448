#!/bin/sh
# The image's entrypoint, in the manner of NGC's: whatever it prepares, it becomes the command it was given.
exec "$@"
