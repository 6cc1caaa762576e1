"""What the server of bench/artifact serves: adapters as a web server, an S3 store and a hub have them, and an engine that takes all."""

import hashlib
import json
import struct
import subprocess

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BLOCK = b"".join(hashlib.sha512(b"%d" % i).digest() for i in range(16384))  # 1 MiB that does not compress
MD5_BYTES_MAX = 64 << 20  # what is larger was uploaded in parts, whose ETag is no MD5


class Weights:
    """The same bytes for all adapters but the last eight, so that no two files have a hash in common and hashing them costs once."""

    def __init__(self, data_bytes):
        header = json.dumps({"a": {"dtype": "F32", "shape": [data_bytes // 4], "data_offsets": [0, data_bytes]}}).encode()
        self.head = struct.pack("<Q", len(header)) + header
        self.data_bytes = data_bytes
        self.bytes = len(self.head) + data_bytes
        self.sha256, self.md5 = hashlib.sha256(), hashlib.md5()
        for piece in self.pieces():
            self.sha256.update(piece)
            if self.bytes <= MD5_BYTES_MAX:
                self.md5.update(piece)

    def pieces(self):
        yield self.head
        left = self.data_bytes - 8
        while left > 0:
            yield BLOCK[:left]
            left -= len(BLOCK)

    def write(self, path, number):
        """Returns the file's SHA-256 and the ETag that S3 has for it."""
        tail = struct.pack("<Q", number)
        with open(path, "wb") as file:
            for piece in self.pieces():
                file.write(piece)
            file.write(tail)
        sha256, md5 = self.sha256.copy(), self.md5.copy()
        sha256.update(tail)
        md5.update(tail)
        return sha256.hexdigest(), md5.hexdigest() + ("" if self.bytes <= MD5_BYTES_MAX else "-128")


class Store:
    def __init__(self, folder):
        self.folder, self.rows = folder, []
        folder.mkdir()
        self.page("/engine/v1/load_lora_adapter", b"Success: LoRA adapter added successfully.", "text/plain")
        self.page("/engine/v1/models", b'{"object":"list","data":[{"id":"base","object":"model","root":"base","parent":null}]}')

    def row(self, key, path, *fields):
        self.rows.append(f"200\t{key}\t{path}\t{'|'.join(fields)}")

    def page(self, key, text, content_type="application/json"):
        path = self.folder / f"page{len(self.rows)}"
        path.write_bytes(text)
        self.row(key, path, f"Content-Type: {content_type}")

    def add(self, name, number, weights):
        config = json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "n": number}).encode()
        folder = self.folder / name
        folder.mkdir()
        (folder / CONFIG).write_bytes(config)
        sha256, etag = weights.write(folder / WEIGHTS, number)
        git_sha1 = hashlib.sha1(b"blob %d\0" % len(config) + config).hexdigest()
        commit = hashlib.sha1(f"commit {name}".encode()).hexdigest()
        files = [(CONFIG, len(config), hashlib.md5(config).hexdigest(), git_sha1, None),
                 (WEIGHTS, weights.bytes, etag, hashlib.sha1(sha256.encode()).hexdigest(), sha256)]
        for file, size, s3_etag, blob, lfs in files:
            self.row(f"/web/{name}/{file}", folder / file, f'ETag: "{s3_etag}"')
            self.row(f"/bucket/{name}/{file}", folder / file, f'ETag: "{s3_etag}"', "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT")
            for revision in (commit, "main"):
                self.row(f"/bench/{name}/resolve/{revision}/{file}", folder / file, f'ETag: "{lfs or blob}"', f"X-Repo-Commit: {commit}")
        self.list_s3(name, files)
        self.list_hub(name, commit, files)

    def list_s3(self, name, files):
        objects = "".join(f"<Contents><Key>{name}/{file}</Key><ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size></Contents>"
                          for file, size, etag, _, _ in files)
        self.page(f"/bucket?prefix={name}%2F", f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
                  f"<IsTruncated>false</IsTruncated>{objects}</ListBucketResult>".encode(), "application/xml")

    def list_hub(self, name, commit, files):
        tree, siblings = [], []
        for file, size, _, blob, lfs in files:
            pointer = {"size": size, "pointerSize": 132}
            tree.append({"type": "file", "path": file, "size": size, "oid": blob, **({"lfs": {"oid": lfs, **pointer}} if lfs else {})})
            siblings.append({"rfilename": file, "size": size, "blobId": blob, **({"lfs": {"sha256": lfs, **pointer}} if lfs else {})})
        info = {"id": f"bench/{name}", "sha": commit, "gated": False, "private": False, "disabled": False, "tags": [], "downloads": 0}
        for revision in (commit, "main"):
            self.page(f"/api/models/bench/{name}/revision/{revision}", json.dumps({**info, "siblings": siblings}).encode())
            self.page(f"/api/models/bench/{name}/tree/{revision}", json.dumps(tree).encode())

    def serve(self, program):
        """The server's process and its URL."""
        table = self.folder / "table"
        table.write_text("\n".join(self.rows) + "\n")
        process = subprocess.Popen([str(program), str(table), "0"], stdout=subprocess.PIPE, text=True)
        return process, f"http://127.0.0.1:{int(process.stdout.readline())}"
