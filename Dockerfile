# docker build --target cpu --tag longrope:0.2.0-cpu .
# docker build --target cuda --tag longrope:0.2.0-cuda .
# docker run --publish 8000:8000 longrope:0.2.0-cpu        serves the embedded model
#
# docs/deploy.md says the rest. No model is downloaded at build time. The `cpu` image has the
# embedded model's package (requirements/cpu.txt); it is unpacked at the first start. The `cuda`
# image has no model. All that a server writes is below /var/cache/longrope, /tmp and /dev/shm.
ARG PYTHON=python:3.11.14-slim-bookworm

# uv's own version is all that an image takes from the developers' list: cut out, so that no other
# change of that list installs everything again.
FROM ${PYTHON} AS uv
COPY requirements/dev.txt /
RUN mkdir /requirements && grep '^uv==' /dev.txt >/requirements/dev.txt

FROM ${PYTHON} AS requirements-cpu
WORKDIR /src
COPY --from=uv /requirements/ requirements/
COPY scripts/install-requirements scripts/image-install scripts/
COPY requirements/cpu.txt requirements/
RUN scripts/image-install requirements /opt/longrope requirements/cpu.txt

FROM ${PYTHON} AS requirements-cuda
WORKDIR /src
COPY --from=uv /requirements/ requirements/
COPY scripts/install-requirements scripts/image-install scripts/
COPY requirements/cuda.txt requirements/
RUN scripts/image-install requirements /opt/longrope requirements/cuda.txt

# Our own code as a wheel: a change of it is a new layer of some ten megabytes, nearly all of them
# the embedded model's adapters, on top of the gigabytes that a registry and a node have already.
FROM ${PYTHON} AS wheel
WORKDIR /src
COPY scripts/image-install scripts/
COPY requirements/cpu.txt requirements/
COPY LICENSE README.md pyproject.toml ./
COPY factors/ factors/
COPY loadtest/ loadtest/
COPY plugin/ plugin/
COPY server/ server/
RUN scripts/image-install wheel /wheel

FROM ${PYTHON} AS runtime
# torch's inductor (CPU) and Triton (GPU) compile at the first start, with g++; libnuma is what
# vLLM binds memory with.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --no-log-init --uid 1000 --create-home --home-dir /var/cache/longrope longrope
# HOME is said too, for runtimes that do not look it up and for other user ids. PyTorch would put
# compiled code below /tmp, where nothing may be executed with Docker's --tmpfs, and nothing stays.
ENV PATH=/opt/longrope/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/var/cache/longrope \
    LONGROPE_CACHE=/var/cache/longrope \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/longrope/torchinductor
EXPOSE 8000
# For Docker; Kubernetes has probes of its own. /health answers once the model is loaded.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
# No shell: the server is process 1 and gets SIGTERM itself.
ENTRYPOINT ["longrope", "serve"]

FROM runtime AS cuda
# What NVIDIA's container runtime reads: which GPUs, and which parts of the driver to put in.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=requirements-cuda /opt/longrope /opt/longrope
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
USER 1000

# The last stage: what `docker build .` makes.
FROM runtime AS cpu
# GiB for keys and values.
ENV VLLM_CPU_KVCACHE_SPACE=4
COPY --from=requirements-cpu /opt/longrope /opt/longrope
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --no-deps --no-index /wheel/*.whl
USER 1000
