#!/bin/sh
# Start a server in a container: sh start.sh /dev/shm COMMAND...
#
# A server that was killed leaves its shared memory behind, and in a pod that outlives the container.
# Only one server lives in a container, so whatever lies there now is of one that is dead.
set -eu
shared_memory=$1
shift
rm -rf "$shared_memory"/triton_python_backend_shm_region_* "$shared_memory"/pem-server-*
exec "$@"
