#!/bin/sh
# As in the images of NGC: whatever is prepared here, the command given to the container takes over.
exec "$@"
