# The service in a container: docs/serving.md says how to build and run it.
#
# PyTorch's wheels on PyPI hold CUDA and run on machines without a GPU too. For a smaller image without CUDA, pass the
# index of PyTorch's CPU wheels: docker build --build-arg TORCH_INDEX=ADDRESS .

FROM python:3.12-slim AS build

ARG TORCH_INDEX=""
WORKDIR /vitral
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# a layer of its own: PyTorch is large, and changes seldom
RUN python -m venv /opt/vitral \
    && if [ -n "$TORCH_INDEX" ]; then /opt/vitral/bin/pip install --index-url "$TORCH_INDEX" torch torchvision; fi
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/vitral/bin/pip install ".[serve,export,images]"

FROM python:3.12-slim

# numbers, so that Kubernetes can see that it is not root
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin vitral
COPY --from=build /opt/vitral /opt/vitral
# caches of libraries go to /tmp, the only place that need be writable
ENV PATH=/opt/vitral/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --start-period=2m --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["vitral", "serve", "--host", "0.0.0.0", "--log-format", "json"]
# the model: mount a folder there, or name another
CMD ["/model"]
