# JetPack 7 (Thor, Orin): NVIDIA's image for Arm servers, Ubuntu 24.04, Python 3.12, TensorRT 10.13.
#
#   docker build -t prunekit:jetpack7 -f jetpack7.Dockerfile .
#   docker run --rm --runtime nvidia --user "$(id -u):$(id -g)" -v "$PWD/BUNDLE:/bundle" prunekit:jetpack7 build
#
# The runtime comes with the bundle, which is mounted: the image holds what it runs on, and no network and no picture. JPEG
# files are read by Pillow; videos and cameras need python3-opencv in its place.
FROM nvcr.io/nvidia/tensorrt:25.08-py3

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-numpy python3-pil \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /bundle
ENTRYPOINT ["python3", "-m", "prunekit_runtime"]
CMD ["doctor"]
