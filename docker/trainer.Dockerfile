# The trainer for one kind of machine:  docker build -f docker/trainer.Dockerfile --build-arg DEVICE=tpu .
# DEVICE is tpu (a TPU VM), gpu or cpu: an extra of setup.py. What is run is a module and its flags:
#   docker run IMAGE trainer.task --records gs://BUCKET/out/256 --run gs://BUCKET/runs/b0 …
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm
ARG DEVICE=tpu

WORKDIR /trainer
COPY setup.py pyproject.toml README.md constraints.txt ./
COPY pipeline pipeline
COPY beam_jobs beam_jobs
COPY trainer trainer
COPY configs configs
RUN pip install --no-cache-dir -c constraints.txt ".[${DEVICE}]"
# Without their dependencies: tf_keras would bring a tensorflow that overwrites tensorflow-tpu.
RUN pip install --no-cache-dir --no-deps tf_keras==2.20.1 efficientnet==1.1.1 Keras-Applications==1.0.8

ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m"]
CMD ["trainer.task", "--help"]
