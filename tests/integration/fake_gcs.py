"""Google Cloud Storage's JSON API as far as downloads need it, with a token endpoint that verifies what service accounts sign.

tests/interop/gcs has it answer beside fake-gcs-server."""

import base64
import functools
import hashlib
import json
import re
import subprocess
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from wire import Wire, WiredServer

SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
LISTED_BY = {"delimiter", "maxResults", "prefix", "pageToken", "fields"}  # the parameters of a list that are known here
READ_BY = {"alt", "generation"}
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@functools.cache
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


class FakeGcs(WiredServer):
    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler, Wire())
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.folder = folder
        self.objects = {}  # name -> (content, generation)
        self.composite = False  # objects say CRC-32C and no MD5
        self.wants_token = False
        self.good = {}  # token -> may it read?
        self.tokens = 0  # that were given: "t1", "t2", ...
        self.page_size = 1000
        self.asked = []  # (path, Range or None)
        self.generation = 1000
        self.start()

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
        self.server.wire.send(self, body)

    def refuse(self, status, message, headers=None):
        self.answer(status, {"error": {"code": status, "message": message, "errors": [{"reason": "x", "message": message}]}}, headers)

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form.get("grant_type") != [JWT_BEARER] or not self.server.verifies(form["assertion"][0]):
            return self.answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        self.server.tokens += 1
        self.server.good[f"t{self.server.tokens}"] = True
        self.answer(200, {"access_token": f"t{self.server.tokens}", "expires_in": 3599, "token_type": "Bearer"})

    def do_GET(self):
        server, url = self.server, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        server.asked.append((self.path, self.headers["Range"]))
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if token and token not in server.good:
            return self.refuse(401, "Invalid Credentials")
        if server.wants_token and not token:
            return self.refuse(401, "Anonymous caller does not have storage.objects.list access to the Google Cloud Storage bucket.")
        if server.wants_token and not server.good[token]:
            return self.refuse(403, "reader@project.iam.gserviceaccount.com does not have storage.objects.list access to the Google Cloud "
                                    "Storage bucket. Permission 'storage.objects.list' denied on resource (or it may not exist).")
        bucket = re.fullmatch(r"/storage/v1/b/([^/]+)/o(?:/(.+))?", url.path)
        if not bucket or bucket.group(1) != "models":
            return self.refuse(404, "The specified bucket does not exist.")
        strange = query.keys() - (READ_BY if bucket.group(2) else LISTED_BY)
        if strange or query.get("delimiter", "/") != "/":
            return self.refuse(400, f"Invalid parameters: {', '.join(sorted(strange)) or 'delimiter'}")
        if bucket.group(2):
            return self.give_object(unquote(bucket.group(2)), query)
        return self.give_page(query)

    def give_page(self, query):
        server = self.server
        prefix, is_flat = query.get("prefix", ""), "delimiter" not in query
        names = sorted(name for name in server.objects if name.startswith(prefix) and (is_flat or "/" not in name[len(prefix):]))
        begin, size = int(query.get("pageToken", "0")), min(int(query.get("maxResults", "1000")), server.page_size)
        cards = [self.card(name) for name in names[begin:begin + size]]
        page = {"kind": "storage#objects", **({"items": cards} if cards else {})}
        if begin + size < len(names):
            page["nextPageToken"] = str(begin + size)
        self.answer(200, page)

    def card(self, name):
        content, generation = self.server.objects[name]
        card = {"name": name, "size": str(len(content)), "generation": generation,
                "crc32c": base64.b64encode(crc32c(content).to_bytes(4, "big")).decode()}
        if not self.server.composite:
            card["md5Hash"] = base64.b64encode(hashlib.md5(content).digest()).decode()
        return card

    def give_object(self, name, query):
        content, generation = self.server.objects.get(name, (None, None))
        if content is None or query.get("generation") != generation or query.get("alt") != "media":
            return self.refuse(404, f"No such object: models/{name}")
        content = self.server.wire.spoil(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if not asked:
            return self.answer(200, content)
        first, last = int(asked.group(1)), min(int(asked.group(2) or len(content) - 1), len(content) - 1)
        if first >= len(content):
            return self.refuse(416, "Requested range not satisfiable", {"Content-Range": f"bytes */{len(content)}"})
        self.answer(206, content[first:last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})
