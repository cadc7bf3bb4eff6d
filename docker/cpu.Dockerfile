# A service on a CPU. From the top of a checkout:
#   docker build -f docker/cpu.Dockerfile -t revstep:cpu .
#   docker run --rm -p 8000:8000 -v "$PWD/models:/models:ro" revstep:cpu
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
ARG EXTRAS=cpu,serve
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/revstep-*.whl)[${EXTRAS}]"
RUN useradd --create-home --uid 10001 revstep
USER 10001
WORKDIR /home/revstep
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["revstep"]
CMD ["serve", "/models/model.revstep", "--host", "0.0.0.0", "--port", "8000"]
