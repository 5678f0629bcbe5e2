# syntax=docker/dockerfile:1.7
# Images: `control-plane` (the default), `envoy`, and `tools` for backups. They are built by BuildKit, the builder of every
# Docker since 23:
#
#   docker build --target control-plane --tag keygate .
#   docker build --target envoy --tag keygate-envoy .
#
# What cargo has downloaded and compiled stays in BuildKit's caches, so a change of ours builds ours
# alone. Base images are pinned by tag. To pin by digest as well, so that a tag that is moved changes
# nothing, write what `docker buildx imagetools inspect IMAGE` prints behind it: `IMAGE@sha256:…`.

ARG RUST=rust:1.95.0-bookworm
ARG RUNTIME=gcr.io/distroless/cc-debian12:nonroot
ARG ENVOY=envoyproxy/envoy:v1.40.0
ARG POSTGRES=postgres:17.6-bookworm

FROM ${RUST} AS source
WORKDIR /src
COPY . .

FROM source AS build-control-plane
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,id=keygate-native,sharing=locked \
    cargo build --release --locked --package control-plane \
    && install -D target/release/keygate /out/keygate

FROM source AS build-filter
RUN rustup target add wasm32-unknown-unknown
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,id=keygate-wasm,sharing=locked \
    cargo xtask wasm \
    && install -D -m 644 target/keygate_filter.wasm /out/keygate_filter.wasm

FROM ${ENVOY} AS envoy
COPY --from=build-filter /out/keygate_filter.wasm /etc/envoy/keygate_filter.wasm
COPY envoy/compose.yaml /etc/envoy/envoy.yaml
COPY envoy/keygate_edge_token_from_env.yaml /etc/envoy/keygate_edge_token.yaml
# The image's own user `envoy`: it needs no right of root to listen on 10000.
USER 101:101
EXPOSE 10000 9902
# Bash, since the image has no HTTP client.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9902 && printf 'GET /ready HTTP/1.1\\r\\nhost: health\\r\\nconnection: close\\r\\n\\r\\n' >&3 && grep -q LIVE <&3"]
ENTRYPOINT ["envoy"]
CMD ["--config-path", "/etc/envoy/envoy.yaml", "--disable-hot-restart"]

# For operators: `keygate` beside the database's own programs, for backups.
FROM ${POSTGRES} AS tools
COPY --from=build-control-plane /out/keygate /usr/local/bin/keygate
USER 999:999
ENTRYPOINT ["keygate"]

# No shell, no package manager, the user `nonroot`.
FROM ${RUNTIME} AS control-plane
COPY --from=build-control-plane /out/keygate /usr/local/bin/keygate
USER 65532:65532
EXPOSE 8080 8081
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=3 CMD ["keygate", "healthcheck"]
ENTRYPOINT ["keygate"]
CMD ["serve"]
