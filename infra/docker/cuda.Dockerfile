# syntax=docker/dockerfile:1
# nightshift and nightshift-worker for NVIDIA GPUs, linux/amd64; the host's driver is 525 or later:
#   docker build -f infra/docker/cuda.Dockerfile -t nightshift:cuda .
# ONNX Runtime's Node package knows CUDA 12 with cuDNN 9 only: no CUDA 13, no arm64.
ARG NODE_VERSION=24.21.0

FROM --platform=linux/amd64 node:${NODE_VERSION}-bookworm-slim AS build
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
# The CUDA provider comes from NuGet, in the version of the package; the environment wins over .npmrc, which says skip.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && ONNXRUNTIME_NODE_INSTALL=true node node_modules/onnxruntime-node/script/install \
    && cd node_modules/onnxruntime-node/bin/napi-v6 \
    && rm -rf darwin win32 linux/arm64 linux/x64/libonnxruntime_providers_tensorrt.so \
    && test -s linux/x64/libonnxruntime_providers_cuda.so && test -s linux/x64/libonnxruntime_providers_shared.so
COPY . .

FROM --platform=linux/amd64 nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04
WORKDIR /app
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /app /app
# Nothing is written but to /tmp: the file system may be read-only. CUDA keeps its compiled kernels there too.
ENV PATH=/app/node_modules/.bin:$PATH HOME=/tmp NODE_ENV=production ORT_DISABLE_TELEMETRY=1 CUDA_CACHE_PATH=/tmp/cuda \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
EXPOSE 9400
ENTRYPOINT []
CMD ["nightshift", "--help"]
