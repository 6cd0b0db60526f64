# JetPack 6.1 and 6.2 (Orin): Ubuntu 22.04, Python 3.10, TensorRT 10.3.
#
#   docker build -t prunekit:jetpack6 -f jetpack6.Dockerfile .
#   docker run --rm --runtime nvidia --user "$(id -u):$(id -g)" -v "$PWD/BUNDLE:/bundle" prunekit:jetpack6 build
#
# The runtime comes with the bundle, which is mounted: the image holds what it runs on, and no network and no picture. JPEG
# files are read by Pillow; videos and cameras need python3-opencv in its place.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-libnvinfer python3-numpy python3-pil \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /bundle
ENTRYPOINT ["python3", "-m", "prunekit_runtime"]
CMD ["doctor"]
