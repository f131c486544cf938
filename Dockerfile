# `clan` in an image; docs/install.md says how to build and run it, with or without GPUs.
#
# Paddle's CUDA builds bring CUDA's libraries with them, so both images have one base; of the machine, the GPU's image needs
# the driver alone.
ARG BASE=python:3.11-slim
FROM ${BASE}

# cpu or gpu; with gpu, PADDLE_INDEX is Paddle's index for the CUDA version of the driver (docs/install.md).
ARG DEVICE=cpu
ARG PADDLE_INDEX=

# OpenMP, which Paddle links to and slim images lack.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN set -e; case "$DEVICE" in \
    cpu) pip install --no-cache-dir "/src[cpu,onnx,serve,inspect]" ;; \
    gpu) \
        if [ -z "$PADDLE_INDEX" ]; then echo "give --build-arg PADDLE_INDEX=, see docs/install.md" >&2; exit 2; fi; \
        pip install --no-cache-dir paddlepaddle-gpu==3.3.1 -i "$PADDLE_INDEX"; \
        pip install --no-cache-dir "/src[onnx,serve,inspect]" ;; \
    *) echo "DEVICE is cpu or gpu, not $DEVICE" >&2; exit 2 ;; \
    esac

# Whoever runs it is not root; what it writes into a mounted folder belongs to this number.
ARG UID=1000
RUN useradd --create-home --uid "$UID" clan && install --directory --owner=clan /work
USER clan
WORKDIR /work
ENTRYPOINT ["clan"]
CMD ["--help"]
