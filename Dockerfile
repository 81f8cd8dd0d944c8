# One image a stage: docker build --target t4|engine|cpu|loadtest .
# Each image starts what it is for; docker-compose.yml and deploy/ add no flags of their own.

# --- t4: the server on a T4. 26.05 is the last Triton with TensorRT 10. ---------------------------
FROM nvcr.io/nvidia/tritonserver:26.05-py3 AS t4
COPY requirements/image-t4.txt /opt/pem/
# The image's own Python is Ubuntu's and guarded; its packages lie beside those from apt, so nothing
# is uninstalled.
RUN python3 -m pip install --no-cache-dir --break-system-packages --ignore-installed \
        --require-hashes -r /opt/pem/image-t4.txt
# The preflight and the engine builder, without the network and without torch: they read config.pbtxt
# with pem_server, and need nothing else of either project's dependencies.
COPY client/pem_client/_version.py /opt/pem/client/pem_client/
COPY build/pyproject.toml /opt/pem/build/
COPY build/pemtrt /opt/pem/build/pemtrt
COPY server/pyproject.toml /opt/pem/server/
COPY server/pem_server /opt/pem/server/pem_server
# Without their dependencies: the preflight and the engine builder need no torch, and of pem_server
# the Python steps need only the modules that they share, not its tritonserver.
RUN python3 -m pip install --no-cache-dir --break-system-packages --no-deps --no-build-isolation \
        /opt/pem/build /opt/pem/server
COPY deploy/hooks /opt/pem/hooks
COPY model_repository/fai-pem-m-ade /models/fai-pem-m-ade
COPY model_repository/pem_preprocess /models/pem_preprocess
COPY model_repository/pem_postprocess /models/pem_postprocess
COPY model_repository/pem_render /models/pem_render
COPY model_repository/pem_network/config.pbtxt /models/pem_network/
COPY model_repository/pem_network/configs /models/pem_network/configs
COPY model_repository/pem_network/warmup /models/pem_network/warmup
# The engine arrives here, from a volume. An empty folder of the server's user, because a fresh volume
# takes over owner and content of what it covers. Git and Docker both forget empty folders: the
# ensemble needs its version folder, too.
RUN install -d -o 1000 -g 1000 /models/pem_network/1 && install -d /models/fai-pem-m-ade/1 /opt/pem/empty
# One thread a Python step: more steps scale, more threads in each fight for the cores. Memory that a
# step frees is kept for the next image, as pem_server's local_server.py explains.
ENV OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=67108864
# A Python step looks for modules in the server's working folder first, so that one is empty.
WORKDIR /opt/pem/empty
USER 1000:1000
EXPOSE 8000 8001 8002
# Connections end after 30 s (15 s more for what runs on them), so that those which bypass the load
# balancer find new servers, too. 25 MiB: the largest image and the request around it.
# The preflight first: an engine of another machine is then one sentence, not a crash.
CMD ["sh", "/opt/pem/hooks/start.sh", "/dev/shm", \
     "python3", "-m", "pemtrt.preflight", "--repository=/models", "--config-name=t4", "--", \
     "tritonserver", \
     "--model-repository=/models", \
     "--model-config-name=t4", \
     "--model-control-mode=none", \
     "--disable-auto-complete-config", \
     "--strict-readiness=true", \
     "--exit-timeout-secs=10", \
     "--grpc-max-connection-age=30000", \
     "--grpc-max-connection-age-grace=15000", \
     "--http-max-input-size=26214400"]
HEALTHCHECK --interval=10s --timeout=12s --retries=3 --start-period=600s \
    CMD ["python3", "/opt/pem/hooks/alive.py"]

# --- cpu: the server without a GPU, from the tritonserver inside a Python package ------------------
FROM python:3.11.13-slim-bookworm AS cpu-packages
COPY requirements/serve.txt /src/
RUN python -m venv /opt/pem/venv \
    && /opt/pem/venv/bin/pip install --no-cache-dir --require-hashes -r /src/serve.txt
COPY client /src/client
COPY server /src/server
COPY gateway /src/gateway
RUN /opt/pem/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation \
        /src/client /src/server /src/gateway

FROM python:3.11.13-slim-bookworm AS cpu
COPY --from=cpu-packages /opt/pem/venv /opt/pem/venv
COPY deploy/hooks /opt/pem/hooks
COPY model_repository /models
RUN install -d /models/fai-pem-m-ade/1 /opt/pem/empty
ENV PATH=/opt/pem/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/pem/empty
USER 1000:1000
# On loopback, since this Triton has known security holes: HAProxy in the same network namespace is
# the way in, on the usual ports, and lets nothing through but questions to the models.
CMD ["sh", "/opt/pem/hooks/start.sh", "/dev/shm", \
     "python3", "-m", "pem_gateway", "serve", \
     "--repository=/models", \
     "--http-port=18000", \
     "--grpc-port=18001", \
     "--metrics-port=18002"]
HEALTHCHECK --interval=10s --timeout=12s --retries=3 --start-period=300s \
    CMD ["python3", "/opt/pem/hooks/alive.py", "--url=http://127.0.0.1:18000"]

# --- loadtest: locust and what it needs; no server ------------------------------------------------
FROM python:3.11.13-slim-bookworm AS loadtest
COPY requirements/image-loadtest.txt /opt/pem/
RUN pip install --no-cache-dir --require-hashes -r /opt/pem/image-loadtest.txt
COPY client /opt/pem/client
COPY loadtest /opt/pem/loadtest
COPY docs/street.jpg /opt/pem/docs/
# Editable, so that it finds its image and its folder for reports as in a checkout.
RUN pip install --no-cache-dir --no-deps --no-build-isolation \
        /opt/pem/client -e /opt/pem/loadtest \
    && install -d -o 1000 -g 1000 /opt/pem/artifacts
# locust and matplotlib keep files in a home directory.
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/pem/artifacts
USER 1000:1000
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "pem_loadtest"]
CMD ["--help"]

# --- engine: makes the engine on the GPU it will run on, in the image that will run it --------------
FROM t4 AS engine
USER 0
# The Python side of the TensorRT that the server's backend loads, and of exactly that version; the
# libraries themselves are in the image.
RUN python3 -m pip install --no-cache-dir --break-system-packages --no-deps \
        "tensorrt-cu13-bindings==$(python3 -m pemtrt.gpu_info --tensorrt)" \
    && python3 -c "from pemtrt.gpu_info import load_tensorrt; load_tensorrt()"
COPY requirements/image-engine.txt /opt/pem/
RUN python3 -m pip install --no-cache-dir --break-system-packages --ignore-installed \
        --require-hashes -r /opt/pem/image-engine.txt \
    && install -d -o 1000 -g 1000 /var/cache/pem
COPY build/build_engine.py /opt/pem/build/
# What ./run export --precision fp16 wrote; another by --build-arg GRAPH=artifacts/pem-int8.onnx.
ARG GRAPH=artifacts/pem-fp16.onnx
COPY ${GRAPH} /opt/pem/pem.onnx
USER 1000:1000
HEALTHCHECK NONE
CMD ["python3", "/opt/pem/build/build_engine.py", \
     "--onnx=/opt/pem/pem.onnx", \
     "--output=/models/pem_network/1/model.plan", \
     "--config=/models/pem_network/configs/t4.pbtxt", \
     "--report=/models/pem_network/1", \
     "--timing-caches=/var/cache/pem"]
