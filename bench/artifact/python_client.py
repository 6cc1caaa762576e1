#!/usr/bin/env python3
"""boto3 or huggingface_hub as a contestant: python_client.py boto3|hub THREADS OUT NAME... imports and connects, says "ready", waits
for a line, downloads the adapters NAME, and says what that cost. The server is in AWS_ENDPOINT_URL and HF_ENDPOINT."""

import json
import os
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FILES = ("adapter_config.json", "adapter_model.safetensors")


def with_boto3(out):
    import boto3
    from botocore.config import Config
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, max_pool_connections=64))

    def fetch(name):
        (out / name).mkdir()
        for file in FILES:
            client.download_file("bucket", f"{name}/{file}", str(out / name / file))  # of large files ten ranges at a time
    return fetch


def with_hub(out):
    os.environ["HF_HOME"] = str(out)
    from huggingface_hub import snapshot_download
    return lambda name: snapshot_download(f"bench/{name}", cache_dir=out)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    client, threads, out, *names = sys.argv[1:]
    fetch = {"boto3": with_boto3, "hub": with_hub}[client](Path(out))
    with ThreadPoolExecutor(int(threads)) as pool:
        print("ready", flush=True)
        sys.stdin.readline()
        before = cpu_seconds()
        list(pool.map(fetch, names))
        spent = cpu_seconds() - before
    status = Path("/proc/self/status").read_text()
    print(json.dumps({"cpu": spent, "resident_kb": int(status.split("VmHWM:")[1].split()[0])}), flush=True)


if __name__ == "__main__":
    main()
