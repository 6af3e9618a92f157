# Images of DGX-Pixels: `tools` (no libtorch), `cpu` and `cuda`. docker-bake.hcl has their names and platforms; docs/production.md
# says how they are used.
#
#   docker build --target cpu --tag dgx-pixels:cpu .
#
# Stages that are not needed are not built. With PROGRAMS=prebuilt and TOOLS=prebuilt nothing is compiled: the programs come
# from the folder that `make dist-folder` has made, for a machine with the same C library as BASE.
ARG BASE=debian:bookworm-slim
ARG RUST=rust:1.95-bookworm
ARG PYTHON=python:3.12-slim-bookworm
ARG PROGRAMS=built
ARG TOOLS=built-tools

FROM ${RUST} AS source
RUN apt-get update && apt-get install -y --no-install-recommends g++ make pkg-config python3 python3-pip python3-venv zstd \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
WORKDIR /src
COPY . .

# The programs without libtorch.
FROM source AS built-tools
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package dgx-pixels --package dgx-pixels-mcp --bins \
    && install -s -D -t /out/bin target/release/dgx-pixels target/release/dgx-pixels-mcp

# The programs, the object, libtorch for the CPU, and the embedded model.
FROM source AS built
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    --mount=type=cache,target=/src/.venv,sharing=locked \
    make dist-folder && mv dist/dgx-pixels-*-linux /out

FROM scratch AS prebuilt
COPY dist/dgx-pixels-*-linux/ /out/

FROM ${PROGRAMS} AS programs
FROM ${TOOLS} AS tool-programs

# What every image has: a user, its folders, and nothing that can be written but them.
FROM ${BASE} AS base
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="DGX-Pixels" \
    org.opencontainers.image.description="Game-ready pixel art from a prompt, on your own machine" \
    org.opencontainers.image.source="https://github.com/dgx-pixels/dgx-pixels" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 dgx-pixels \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/dgx-pixels --no-create-home --shell /usr/sbin/nologin dgx-pixels \
    && install -d -o 10001 -g 10001 /var/lib/dgx-pixels /var/lib/dgx-pixels/assets /var/lib/dgx-pixels/mcp \
        /var/lib/dgx-pixels/models /var/cache/dgx-pixels /work
# Assets, journals and models lie in /var/lib/dgx-pixels, what can be measured or made again in /var/cache/dgx-pixels.
ENV HOME=/var/lib/dgx-pixels \
    XDG_DATA_HOME=/var/lib \
    XDG_STATE_HOME=/var/lib \
    XDG_CACHE_HOME=/var/cache \
    PATH=/opt/dgx-pixels/bin:/usr/local/bin:/usr/bin:/bin
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["dgx-pixels"]
CMD ["--help"]
EXPOSE 8077

FROM base AS tools
COPY --from=tool-programs /out/bin/ /opt/dgx-pixels/bin/

FROM base AS cpu
USER 0:0
RUN apt-get update && apt-get install -y --no-install-recommends libstdc++6 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER 10001:10001
COPY --from=programs /out/ /opt/dgx-pixels/

# libtorch with the CUDA libraries, without what only Python and compilers read.
FROM ${PYTHON} AS libtorch
COPY --from=programs /out/bin/dgx-pixels /usr/local/bin/dgx-pixels
RUN XDG_DATA_HOME=/fetched dgx-pixels setup --cuda && mv /fetched/dgx-pixels/libtorch-* /libtorch \
    && rm -rf /libtorch/triton /libtorch/torch/include /libtorch/torch/test /libtorch/torch/bin /libtorch/nvidia/*/include \
    && find /libtorch -name '*.a' -delete

FROM base AS cuda
USER 0:0
RUN apt-get update && apt-get install -y --no-install-recommends libstdc++6 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER 10001:10001
COPY --from=libtorch /libtorch/ /opt/libtorch/
COPY --from=programs /out/bin/ /opt/dgx-pixels/bin/
COPY --from=programs /out/lib/libdgx_pixels_torch.so /opt/dgx-pixels/lib/
COPY --from=programs /out/share/ /opt/dgx-pixels/share/
ENV LIBTORCH=/opt/libtorch/torch \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
