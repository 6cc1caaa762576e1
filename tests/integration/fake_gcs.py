"""Google Cloud Storage's JSON API as far as downloads need it, with a token endpoint that verifies what service accounts sign."""

import base64
import hashlib
import json
import re
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def crc32c(content):
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    crc = 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def unpad(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class FakeGcs(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.folder = folder
        self.objects = {}  # name -> (content, generation)
        self.composite = False  # objects say CRC-32C and no MD5
        self.lies = False  # about checksums
        self.wants_token = False
        self.tokens, self.first_good = 0, 1  # "t1", "t2", ...; older ones than first_good are refused
        self.page_size = 1000
        self.cut_every = 0  # bytes after which a download is cut
        self.asked = []
        self.generation = 1000
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def put(self, name, content):
        self.generation += 1
        self.objects[name] = (content, str(self.generation))

    def service_account(self, name="account"):
        """A key file's text; the public key stays here for the token endpoint."""
        key, public = self.folder / f"{name}.pem", self.folder / f"{name}.pub"
        subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key], check=True,
                       capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
        return json.dumps({"type": "service_account", "client_email": f"{name}@project.iam.gserviceaccount.com", "private_key_id": "k1",
                           "private_key": key.read_text(), "token_uri": f"http://{self.host}/token"})

    def verifies(self, assertion):
        signed, signature = assertion.rsplit(".", 1)
        claims = json.loads(unpad(signed.split(".")[1]))
        account = claims["iss"].split("@")[0]
        (self.folder / "signature").write_bytes(unpad(signature))
        checked = subprocess.run(["openssl", "dgst", "-sha256", "-verify", self.folder / f"{account}.pub", "-signature",
                                  self.folder / "signature"], input=signed.encode(), capture_output=True)
        return checked.returncode == 0 and claims["scope"] == SCOPE and claims["aud"] == f"http://{self.host}/token" and \
            abs(claims["iat"] - time.time()) < 60 and 0 < claims["exp"] - claims["iat"] <= 3600

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.send_cut(body)

    def send_cut(self, body):
        limit = self.server.cut_every if "alt=media" in self.path else 0
        if limit and len(body) > limit:
            self.wfile.write(body[:limit])
            self.close_connection = True
        else:
            self.wfile.write(body)

    def refuse(self, status, message):
        self.answer(status, {"error": {"code": status, "message": message, "errors": [{"reason": "x", "message": message}]}})

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form.get("grant_type") != [JWT_BEARER] or not self.server.verifies(form["assertion"][0]):
            return self.answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        self.server.tokens += 1
        self.answer(200, {"access_token": f"t{self.server.tokens}", "expires_in": 3599, "token_type": "Bearer"})

    def do_GET(self):
        server, url = self.server, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        server.asked.append(self.path)
        shown = re.fullmatch(r"Bearer t(\d+)", self.headers["Authorization"] or "")
        if server.wants_token and (not shown or int(shown.group(1)) < server.first_good):
            return self.refuse(401, "Anonymous caller does not have storage.objects.list access")
        bucket = re.fullmatch(r"/storage/v1/b/([^/]+)/o(?:/(.+))?", url.path)
        if not bucket or bucket.group(1) != "models":
            return self.refuse(404, "The specified bucket does not exist.")
        if bucket.group(2):
            return self.give_object(unquote(bucket.group(2)), query)
        return self.give_page(query)

    def give_page(self, query):
        server = self.server
        names = sorted(name for name in server.objects if name.startswith(query["prefix"]) and "/" not in name[len(query["prefix"]):])
        begin = int(query.get("pageToken", "0"))
        page = {"kind": "storage#objects", "items": [self.card(name) for name in names[begin:begin + server.page_size]]}
        if begin + server.page_size < len(names):
            page["nextPageToken"] = str(begin + server.page_size)
        self.answer(200, page)

    def card(self, name):
        content, generation = self.server.objects[name]
        seen = content + b"!" if self.server.lies else content
        card = {"name": name, "size": str(len(content)), "generation": generation,
                "crc32c": base64.b64encode(crc32c(seen).to_bytes(4, "big")).decode()}
        if not self.server.composite:
            card["md5Hash"] = base64.b64encode(hashlib.md5(seen).digest()).decode()
        return card

    def give_object(self, name, query):
        content, generation = self.server.objects.get(name, (None, None))
        if content is None or query.get("generation") != generation or query.get("alt") != "media":
            return self.refuse(404, f"No such object: models/{name}")
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if not asked:
            return self.answer(200, content)
        first, last = int(asked.group(1)), min(int(asked.group(2) or len(content) - 1), len(content) - 1)
        self.answer(206, content[first:last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})
