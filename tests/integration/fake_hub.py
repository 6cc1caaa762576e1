"""A Hugging Face Hub on loopback: the API, the files behind signed URLs on another origin, gated, private and renamed models, and faults.

As a program it serves folders:   python3 fake_hub.py FOLDER [--port N]      FOLDER/sql is model "demo/sql"; prints its URL.

test_fake_hub.py has the real client download from it. What it answers is that of the Hub where clients depend on it: commits,
X-Error-Code, X-Linked-Etag, 302 to a store that refuses Authorization, pages with Link, gzip for whoever does not ask for identity.
"""

import argparse
import gzip
import hashlib
import itertools
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from wire import Wire, WiredServer

LFS_ENDINGS = (".safetensors", ".bin")


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Model:
    def __init__(self):
        self.commits = {}  # commit -> {path: bytes}
        self.refs = {}  # branch, tag -> commit
        self.gated = False  # or "auto": only tokens in `members` read files
        self.is_private = False  # only tokens in `members` see it
        self.members = set()

    def commit_of(self, revision):
        return revision if revision in self.commits else self.refs.get(revision)


class Refusal(Exception):
    def __init__(self, status, code=None, message=None, **fields):
        super().__init__(message)
        self.status, self.fields = status, {name.replace("_", "-"): value for name, value in fields.items()}
        if code:
            self.fields["X-Error-Code"] = code
        if message:
            self.fields["X-Error-Message"] = message


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub = self.server.hub
        hub.requests.append((self.server.role, self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        hub.on_request(self.server.role, self.path)
        try:
            self.answer(hub)
        except Refusal as refusal:
            self.reply(refusal.status, json.dumps({"error": str(refusal)}).encode(), {"Content-Type": "application/json", **refusal.fields})

    def reply(self, status, body, fields):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.server.hub.wire.send(self, body)


class StoreHandler(Handler):
    """Where the signed URLs lead: ranges, no Authorization."""

    def answer(self, hub):
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if "Authorization" in self.headers:
            raise Refusal(400, message="Only one auth mechanism allowed")
        if query.get("Signature") != [hub.signature()]:
            raise Refusal(403, message="Request has expired")
        data = hub.blobs.get(parts.path.strip("/"))
        if data is None:
            raise Refusal(404)
        self.send_range(hub.wire.spoil(data))

    def send_range(self, data):
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return self.reply(200, data, {"Accept-Ranges": "bytes"})
        first, last = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
        if first >= len(data):
            raise Refusal(416, Content_Range=f"bytes */{len(data)}")
        return self.reply(206, data[first:last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})


class HubHandler(StoreHandler):
    ROUTES = (
        (r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
        (r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)/revision/(?P<revision>[^/]+)", "info"),
        (r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)", "info"),
        (r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )

    def answer(self, hub):
        parts = urlsplit(self.path)
        for pattern, name in self.ROUTES:
            match = re.fullmatch(pattern, parts.path)
            if match:
                found = {key: unquote(value) for key, value in match.groupdict().items() if value}
                return self.route(hub, name, found, parse_qs(parts.query))
        raise Refusal(404)

    def route(self, hub, name, found, query):
        if found["repo"] in hub.renamed:
            location = self.path.replace(found["repo"], hub.renamed[found["repo"]], 1)
            return self.reply(307, b"", {"Location": location})
        model, token = self.model(hub, found["repo"])
        commit = model.commit_of(found.get("revision", "main"))
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {found['revision']}")
        if name == "info":
            return self.info(found["repo"], model, commit, query)
        if name == "tree":
            return self.tree(hub, found, model.commits[commit], commit, query)
        return self.resolve(hub, found, model, commit, token)

    def model(self, hub, repo):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        if token and token not in hub.tokens:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        model = hub.models.get(repo)
        if model is None or (model.is_private and token not in model.members):
            raise Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        return model, token

    def info(self, repo, model, commit, query):
        siblings = []
        for path, data in model.commits[commit].items():
            row = {"rfilename": path}
            if query.get("blobs") == ["true"]:
                row |= {"size": len(data), "blobId": git_sha1(data)}
                if path.endswith(LFS_ENDINGS):
                    row["blobId"] = git_sha1(b"version https://git-lfs.github.com/spec/v1")
                    row["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 132}
            siblings.append(row)
        answer = {"id": repo, "sha": commit, "gated": model.gated, "private": model.is_private, "disabled": False, "tags": [],
                  "downloads": 0, "siblings": siblings}
        if "expand" in query:
            answer = {key: value for key, value in answer.items() if key in ("id", *query["expand"])}
        self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def tree(self, hub, found, files, commit, query):
        folder = found.get("path", "").rstrip("/")
        below = {path: data for path, data in files.items() if not folder or path.startswith(folder + "/")}
        if not below:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist on \"{found['revision']}\"", X_Repo_Commit=commit)
        is_recursive = query.get("recursive", ["false"])[0].lower() == "true"
        rows = []
        for path, data in below.items():
            if not is_recursive and "/" in path[len(folder) + 1 if folder else 0:]:
                continue
            row = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
            if path.endswith(LFS_ENDINGS):
                row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 132}
            rows.append(row)
        start = int(query.get("cursor", ["0"])[0])
        page = rows[start:start + hub.page_size]
        fields = {"Content-Type": "application/json"}
        if start + hub.page_size < len(rows):
            more = f"{hub.url}{urlsplit(self.path).path}?recursive={is_recursive}&cursor={start + hub.page_size}"
            fields["Link"] = f'<{more}>; rel="next"'
        self.reply(200, json.dumps(page).encode(), fields)

    def resolve(self, hub, found, model, commit, token):
        if model.gated and token not in model.members:
            raise Refusal(403 if token else 401, "GatedRepo", "Access to this model is restricted")
        data = model.commits[commit].get(found["path"])
        fields = {"X-Repo-Commit": commit}
        if data is None:
            raise Refusal(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        if found["path"].endswith(LFS_ENDINGS):
            digest = hashlib.sha256(data).hexdigest()
            hub.blobs[digest] = data
            return self.reply(302, b"", {**fields, "ETag": f'"{git_sha1(b"")}"', "X-Linked-Etag": f'"{digest}"',
                                         "X-Linked-Size": str(len(data)), "Location": hub.signed_url(digest)})
        fields |= {"ETag": f'"{git_sha1(data)}"', "Content-Type": "text/plain"}
        data = hub.wire.spoil(data)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            return self.reply(200, gzip.compress(data), {**fields, "Content-Encoding": "gzip"})
        return self.reply(200, data, fields)


class FakeHub:
    def __init__(self, port=0):
        self.models, self.renamed, self.tokens = {}, {}, set()
        self.blobs, self.requests = {}, []
        self.page_size = 1000
        self.on_request = lambda role, path: None  # a test's: before an answer
        self.wire = Wire()
        self.epoch, self.counter = 0, itertools.count(1)
        self.servers = [self.serve("hub", HubHandler, port), self.serve("store", StoreHandler, 0)]
        self.url, self.store_url = (f"http://127.0.0.1:{server.server_address[1]}" for server in self.servers)

    def serve(self, role, handler, port):
        server = WiredServer(("127.0.0.1", port), handler, self.wire)
        server.hub, server.role = self, role
        server.start()
        return server

    def close(self):
        for server in self.servers:
            server.close()

    def put(self, repo, files, branch="main"):
        """A commit with these files; returns its name."""
        model = self.models.setdefault(repo, Model())
        commit = hashlib.sha1(f"{repo} {next(self.counter)}".encode()).hexdigest()
        model.commits[commit] = {path: data if isinstance(data, bytes) else Path(data).read_bytes() for path, data in files.items()}
        model.refs[branch] = commit
        return commit

    def put_folder(self, repo, folder, below=""):
        return self.put(repo, {below + path.name: path for path in sorted(Path(folder).iterdir()) if path.is_file()})

    def signature(self):
        return hashlib.sha256(f"epoch {self.epoch}".encode()).hexdigest()[:16]

    def signed_url(self, digest):
        return f"{self.store_url}/{digest}?Expires={int(time.time()) + 3600}&Signature={quote(self.signature())}"

    def expire_urls(self):
        self.epoch += 1

    def asked(self, role, part=""):
        return [request for request in self.requests if request[0] == role and part in request[2]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8090)
    arguments = parser.parse_args()
    hub = FakeHub(arguments.port)
    for folder in sorted(arguments.folder.iterdir()):
        if (folder / "adapter_config.json").exists():
            print(f"demo/{folder.name} at {hub.put_folder(f'demo/{folder.name}', folder)}")
    print(f"serving on {hub.url}", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        hub.close()


if __name__ == "__main__":
    main()
