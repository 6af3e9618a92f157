# Prometheus, Alertmanager and the node exporter of Debian, with the entry points and folders of the projects' own images,
# for machines that reach no registry of images. compose.yaml takes them by PROMETHEUS_IMAGE and its like.
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS programs
RUN apt-get update \
    && apt-get install -y --no-install-recommends busybox prometheus prometheus-alertmanager prometheus-node-exporter \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && ln -s /bin/busybox /usr/local/bin/wget \
    && install -d -o 65534 -g 65534 /prometheus /alertmanager

FROM programs AS prometheus
ENTRYPOINT ["/usr/bin/prometheus"]

FROM programs AS alertmanager
ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]

FROM programs AS node-exporter
ENTRYPOINT ["/usr/bin/prometheus-node-exporter"]
