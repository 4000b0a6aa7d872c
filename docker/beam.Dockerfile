# Dataflow's workers, and the launcher of the Flex Templates: one image, so that what submits a job is
# what runs it. cloudbuild.yaml builds it:  docker build -f docker/beam.Dockerfile .
# What Google adds to a container is copied in, as its guides say:
#   https://cloud.google.com/dataflow/docs/guides/build-container-image
#   https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates
ARG PYTHON=3.11
ARG BEAM=2.77.0
ARG LAUNCHER=20230622_RC00

FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:${LAUNCHER} AS launcher
FROM apache/beam_python${PYTHON}_sdk:${BEAM} AS sdk

FROM python:${PYTHON}-slim-bookworm
# [cpu] for score_images, whose workers alone need TensorFlow.
ARG EXTRAS=
COPY --from=sdk /opt/apache/beam /opt/apache/beam
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher

WORKDIR /template
# Only what a worker needs: no trainer.
COPY setup.py pyproject.toml README.md constraints.txt docker/launch.py ./
COPY pipeline pipeline
COPY beam_jobs beam_jobs
RUN pip install --no-cache-dir -c constraints.txt ".${EXTRAS}"

ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/template/launch.py
# Of a worker. The launcher is started by the service itself.
ENTRYPOINT ["/opt/apache/beam/boot"]
