# docker build --tag mixscout .
# docker run --rm --gpus all --volume "$PWD:/work" mixscout search study.toml
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

# A fixed version of an Ubuntu package is gone with its next security fix.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# A user with the usual first number, so that files in a mounted folder belong to the person outside.
RUN userdel --remove ubuntu && useradd --create-home --uid 1000 scout \
    && mkdir /work /opt/mixscout && chown scout:scout /work /opt/mixscout
USER 1000

# torch brings the CUDA libraries; the base image brings what the driver needs.
COPY --chown=scout:scout pyproject.toml constraints.txt README.md LICENSE /opt/mixscout/source/
COPY --chown=scout:scout pool /opt/mixscout/source/pool
COPY --chown=scout:scout objectives /opt/mixscout/source/objectives
COPY --chown=scout:scout search /opt/mixscout/source/search
COPY --chown=scout:scout studies /opt/mixscout/source/studies
COPY --chown=scout:scout mixscout /opt/mixscout/source/mixscout
RUN python3 -m venv /opt/mixscout/venv \
    && /opt/mixscout/venv/bin/pip install --no-cache-dir --constraint /opt/mixscout/source/constraints.txt \
        /opt/mixscout/source

ENV PATH=/opt/mixscout/venv/bin:$PATH
WORKDIR /work
ENTRYPOINT ["mixscout"]
CMD ["--help"]
