# syntax=docker/dockerfile:1
# nightshift and nightshift-worker for CPUs, linux/amd64 and linux/arm64:
#   docker build -f infra/docker/cpu.Dockerfile -t nightshift:cpu .
ARG NODE_VERSION=24.21.0

FROM node:${NODE_VERSION}-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY packages/core/package.json packages/core/
COPY packages/cli/package.json packages/cli/
COPY apps/producer/package.json apps/producer/
COPY apps/worker/package.json apps/worker/
# npm links a program only where its file is there.
COPY apps/producer/bin apps/producer/bin
COPY apps/worker/bin apps/worker/bin
RUN npm ci --omit=dev --no-progress
# ONNX Runtime brings the binaries of all platforms: 240 MB that this image cannot use.
RUN find node_modules/onnxruntime-node/bin/napi-v6 -mindepth 2 -maxdepth 2 \
      ! -path "*/linux/$(node -p process.arch)" -exec rm -r {} +
COPY . .

FROM node:${NODE_VERSION}-bookworm-slim
WORKDIR /app
COPY --from=build /app /app
# Nothing is written but to /tmp: the file system may be read-only.
ENV PATH=/app/node_modules/.bin:$PATH HOME=/tmp NODE_ENV=production ORT_DISABLE_TELEMETRY=1
USER 65532:65532
EXPOSE 9400
# The program itself is process 1: a signal reaches it without a shell or npm in between.
ENTRYPOINT []
CMD ["nightshift", "--help"]
