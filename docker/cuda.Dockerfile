# A service on an NVIDIA GPU. From the top of a checkout, on a host with NVIDIA's container toolkit:
#   docker build -f docker/cuda.Dockerfile -t revstep:cuda .
#   docker run --rm --gpus all -p 8000:8000 -v "$PWD/models:/models:ro" revstep:cuda
# CUDA's libraries come with torch's wheels, the driver from the host: no image of CUDA is needed.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml CMakeLists.txt README.md LICENSE ./
COPY src src
COPY engine engine
COPY kernels kernels
COPY export export
COPY bench bench
COPY serve serve
ENV REVSTEP_REQUIRE_NATIVE=1
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim-bookworm
# Triton's launcher is compiled where it runs; bundles of `revstep compile --kernels` don't need it.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ARG EXTRAS=cuda,serve
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/revstep-*.whl)[${EXTRAS}]"
RUN useradd --create-home --uid 10001 revstep
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /home/revstep
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["revstep"]
CMD ["serve", "/models/model.revstep", "--host", "0.0.0.0", "--port", "8000", "--device", "cuda"]
