#!/bin/sh
# The image's command vllm: the module's own main, which its engine's processes can import without starting a server.
exec python3 -m vllm.entrypoints.cli.main "$@"
