# shellcheck shell=bash disable=SC2034  # constants, read by the scripts of this folder
# What the demo is made of. Paths are relative to the repository root.

DEMO_IMAGE=gpufleet/vllm-cpu:0.32.0
DEMO_VLLM_VERSION=0.32.0
DEMO_SUITE=bookworm       # Debian release inside the image
DEMO_PYTHON=3.11          # its Python
DEMO_IMAGE_NEEDS_MIB=8192 # free disk space to build the image (with the CPU build of torch)

DEMO_CACHE=.cache/demo
DEMO_MODEL_DIR=$DEMO_CACHE/model
DEMO_ENCODINGS_DIR=$DEMO_CACHE/encodings-source
