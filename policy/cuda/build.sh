#!/bin/sh
# Builds the `cuda` feature on Linux, also on a machine that has neither a GPU nor a CUDA toolkit.
#
#   policy/cuda/build.sh FOLDER [cargo build options …]
#
# FOLDER (made if missing; about 6 GB) receives the compiler and libraries from NVIDIA's PyPI wheels, and
# cargo's output: FOLDER/target/release/murmur, after about 20 minutes on two cores. Options are passed on,
# for example `-j 2` or `--tests`.
#
#   CUDA_COMPUTE_CAP   GPU to compile for, 90 if not set (H100, H200); 80 is A100, 89 is RTX 40 and L40
#   PYTHON             a Python 3 with pip, `python3` if not set
#   CUDAFORGE_THREADS  nvcc processes at a time, as many as cores if not set
#
# With a toolkit installed and a GPU in the machine none of this is needed: `cargo build --release
# --features cuda`. To run what this script built, the driver must support CUDA 13.0, and the libraries must
# be found: LD_LIBRARY_PATH=FOLDER/toolkit/nvidia/cu13/lib. The `stubs` folder must not be on that path.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: $0 FOLDER [cargo build options ...]" >&2
    exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
for tool in "$python" cargo g++ unzip; do
    command -v "$tool" >/dev/null || { echo "$0: \"$tool\" is needed and was not found" >&2; exit 1; }
done

# 13.0, because cudarc must know the version (0.19.10 knows up to 13.4), and because the CUDA 12 wheels hold no
# nvcc driver program.
wheels=$folder/wheels
if [ ! -e "$wheels/complete" ]; then
    "$python" -m pip download --quiet --no-deps --dest "$wheels" \
        "nvidia-cuda-nvcc==13.0.*" "nvidia-cuda-crt==13.0.*" "nvidia-nvvm==13.0.*" \
        "nvidia-cuda-cccl==13.0.*" "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-nvrtc==13.0.*" \
        "nvidia-cublas==13.0.*" "nvidia-curand==10.4.0.*"
    touch "$wheels/complete"
fi
cuda=$folder/toolkit/nvidia/cu13
if [ ! -e "$cuda/complete" ]; then
    for wheel in "$wheels"/*.whl; do
        unzip -qo "$wheel" -d "$folder/toolkit"
    done
    chmod +x "$cuda"/bin/* "$cuda"/nvvm/bin/*
    # The linker looks for names without a version.
    for library in cublas:13 cublasLt:13 cudart:13 curand:10 nvrtc:13; do
        ln -sf "lib${library%:*}.so.${library#*:}" "$cuda/lib/lib${library%:*}.so"
    done
    touch "$cuda/complete"
fi

# libcuda.so belongs to the driver and is in no wheel: to link, a library with the names that cudarc's bindings
# declare is enough. Each function returns 999 (CUDA_ERROR_UNKNOWN).
stubs=$folder/stubs
mkdir -p "$stubs"
cudarc=$(cargo metadata --format-version 1 --locked --features cuda | "$python" -c '
import json, os, sys
print(*[os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"])')
grep -rhoE 'fn cu[A-Z][A-Za-z0-9_]+' "$cudarc/src/driver/sys/" | awk '{ print $2 }' | sort -u |
    awk '{ print "int " $1 "(void) { return 999; }" }' >"$stubs/cuda.c"
g++ -x c -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$stubs/libcuda.so" "$stubs/cuda.c"
# To start the program on a machine without a driver, which then reports that there is no GPU.
ln -sf libcuda.so "$stubs/libcuda.so.1"

export CUDA_HOME="$cuda" CUDA_PATH="$cuda" CUDA_ROOT="$cuda" PATH="$cuda/bin:$PATH"
export CUDA_COMPUTE_CAP="${CUDA_COMPUTE_CAP:-90}" LIBRARY_PATH="$cuda/lib:$stubs${LIBRARY_PATH:+:$LIBRARY_PATH}"
export CARGO_TARGET_DIR="$folder/target"
cargo build --release --locked --features cuda "$@"
ls -l "$CARGO_TARGET_DIR/release/murmur"
