"""Where adapters come from, behind one small interface: a store a scheme, that holds one adapter and goes wrong in every way it can.

A store has `url`, what whoever fetches gives with it (`secrets` as of a Secret, `environment`, `options`), `wire` (how bodies go
out) and `gets()`. Its rows of `refusals` say how it goes wrong and what is said then; mend() takes all of it back."""

import base64
import functools
import hashlib
import os
import ssl
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import fault_server
from fake_gcs import FakeGcs, crc32c
from fake_hub import FakeHub
from fake_s3 import Bucket, FakeS3, User
from web_server import WebServer
from wire import LARGE_BYTES

TOKEN = "s3cret-t0ken"  # whatever is secret here begins so
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = {CONFIG: fault_server.CONFIG, WEIGHTS: fault_server.safetensors(2 << 20)}
DIGEST = hashlib.sha256(FILES[WEIGHTS]).hexdigest()


class Refusal(NamedTuple):
    begin: Callable  # of the store
    status: int  # what the sidecar answers
    reason: str
    words: tuple  # of the message, which both the sidecar and `davit pull` have
    is_for_the_cached: bool = False  # whoever has it in the cache is refused too
    engine: tuple = ()  # status and words, where it is the engine that says so to the sidecar


def not_found(*words):
    return Refusal(lambda store: store.hide(), 404, "ArtifactNotFound", words, True)


def forbidden(*words):
    return Refusal(lambda store: store.forbid(), 403, "ArtifactForbidden", words, True)


def expired(*words):
    return Refusal(lambda store: store.expire(), 401, "ArtifactUnauthorized", words, True)


def wrong(name, *words, spoil, begin=lambda store: None):
    def both(store):
        begin(store)
        store.wire.spoil = spoil
    return Refusal(both, 400, "ArtifactInvalid", (name, "expected", "found", *words))


def other_weights(data):
    return data[:-1] + bytes([data[-1] ^ 1]) if len(data) >= LARGE_BYTES else data


def other_config(data):
    return data.replace(b'"r": 8', b'"r": 4')


class Store:
    environment, options, prefix = {}, (), ()
    has_server = True

    def check_secrets(self):
        """What the server saw of them."""


class HubStore(Store):
    refusals = {
        "not found": not_found('no model "org/sql"'),
        "forbidden": forbidden('model "org/sql" is gated', "the adapter's huggingface_token", "accept its terms at "),
        "expired token": expired("does not know the token (the adapter's huggingface_token)", "expired"),
        "wrong SHA-256": wrong(WEIGHTS, "SHA-256", spoil=other_weights),
        "wrong git SHA-1": wrong(CONFIG, "git's SHA-1", spoil=other_config),
    }

    def __init__(self, scheme, folder):
        self.hub = FakeHub()
        self.wire = self.hub.wire
        self.hub.put("org/sql", FILES)
        self.model = self.hub.models["org/sql"]
        self.url = f"{scheme}://org/sql"
        self.secrets = {"huggingface_token": TOKEN, "hf_endpoint": self.hub.url}
        self.mend()

    def mend(self):
        self.wire.spoil = lambda data: data
        self.hub.tokens, self.hub.models = {TOKEN}, {"org/sql": self.model}
        self.model.is_private, self.model.gated, self.model.members = True, False, {TOKEN}

    def hide(self):
        self.hub.models = {}

    def forbid(self):
        self.model.is_private, self.model.gated, self.model.members = False, "auto", set()

    def expire(self):
        self.hub.tokens = set()

    def gets(self):
        return [request[3].get("range") for request in self.hub.asked("store")]

    def check_secrets(self):
        assert not [request for request in self.hub.asked("store") if "authorization" in request[3]]

    def close(self):
        self.hub.close()


class S3Store(Store):
    @staticmethod
    def keep(**fields):
        """Puts the weights again, with other fields beside them."""
        return lambda store: store.s3.put("models", f"a/sql/{WEIGHTS}", FILES[WEIGHTS], **fields)

    refusals = {
        "not found": not_found("://models/a/sql/ holds no adapter_config.json"),
        "forbidden": forbidden("://models/a/sql/: HTTP 403 AccessDenied with the keys of the adapter's Secret", "s3:ListBucket"),
        "expired token": expired("://models/a/sql/: HTTP 400 ExpiredToken", "the session token has expired"),
        "wrong region": Refusal(lambda store: store.lose_region(), 401, "ArtifactUnauthorized",
                                ("://models/a/sql/: HTTP 400 AuthorizationHeaderMalformed", "is aws_region the bucket's region?")),
        "wrong MD5": wrong(WEIGHTS, "MD5", spoil=other_weights),
        "wrong SHA-256": wrong(WEIGHTS, "SHA-256", spoil=other_weights, begin=keep(
            etag="1" * 32 + "-2", x_amz_checksum_sha256=base64.b64encode(hashlib.sha256(FILES[WEIGHTS]).digest()).decode())),
        "wrong CRC-32C": wrong(WEIGHTS, "CRC-32C", spoil=other_weights, begin=lambda store: S3Store.keep(
            etag="1" * 32 + "-2", x_amz_checksum_crc32c=base64.b64encode(crc32c(FILES[WEIGHTS]).to_bytes(4, "big")).decode())(store)),
    }
    key_names = {"s3": ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_endpoint_url"),
                 "tos": ("TOS_ACCESS_KEY", "TOS_SECRET_KEY", "TOS_SESSION_KEY", "tos_endpoint")}
    regions = {"s3": "us-east-1", "tos": "cn-beijing"}

    def __init__(self, scheme, folder):
        self.s3 = FakeS3(region=self.regions[scheme])
        self.wire = self.s3.wire
        self.s3.users["AKUSER"] = User("s3cret-key", TOKEN)
        self.url = f"{scheme}://models/a/sql"
        self.secrets = dict(zip(self.key_names[scheme], ("AKUSER", "s3cret-key", TOKEN, self.s3.url), strict=True))
        self.mend()

    def mend(self):
        self.wire.spoil = lambda data: data
        self.s3.faults = []
        self.s3.users["AKUSER"].is_expired, self.s3.users["AKUSER"].buckets = False, None
        self.s3.buckets["models"] = Bucket(self.s3.region)
        for name, content in FILES.items():
            self.s3.put("models", f"a/sql/{name}", content)

    def hide(self):
        self.s3.buckets["models"] = Bucket(self.s3.region)

    def forbid(self):
        self.s3.users["AKUSER"].buckets = set()

    def expire(self):
        self.s3.users["AKUSER"].is_expired = True

    def move(self):
        """To another region, which the server names."""
        self.s3.buckets["models"].region = "eu-central-1"

    def lose_region(self):
        self.s3.faults = [["GET", "/models", 100, (400, "AuthorizationHeaderMalformed", "The authorization header is malformed")]]

    def gets(self):
        return [fields.get("range") for _, _, fields, _ in self.s3.asked("GET", WEIGHTS)]

    def close(self):
        self.s3.close()


class GcsStore(Store):
    refusals = {
        "not found": not_found("://models/a/sql/ holds no adapter_config.json"),
        "forbidden": forbidden('://models/a/sql/: HTTP 403 as the Secret\'s "gcp_access_token"', "does not have storage.objects.list"),
        "expired token": expired('://models/a/sql/: HTTP 401 as the Secret\'s "gcp_access_token": Invalid Credentials'),
        "wrong MD5": wrong(WEIGHTS, "MD5", spoil=other_weights),
        "wrong CRC-32C": wrong(WEIGHTS, "CRC-32C", spoil=other_weights, begin=lambda store: setattr(store.gcs, "composite", True)),
    }

    def __init__(self, scheme, folder):
        self.gcs = FakeGcs(folder)
        self.gcs.wants_token = True
        self.wire = self.gcs.wire
        self.objects = {}
        for name, content in FILES.items():
            self.gcs.put(f"a/sql/{name}", content)
        self.objects = self.gcs.objects
        self.url = f"{scheme}://models/a/sql"
        self.secrets = {"gcp_access_token": TOKEN}
        self.environment = {"STORAGE_EMULATOR_HOST": self.gcs.host}
        self.mend()

    def mend(self):
        self.wire.spoil = lambda data: data
        self.gcs.good, self.gcs.objects = {TOKEN: True}, self.objects

    def hide(self):
        self.gcs.objects = {}

    def forbid(self):
        self.gcs.good = {TOKEN: False}

    def expire(self):
        self.gcs.good = {}

    def gets(self):
        return [asked_range for path, asked_range in self.gcs.asked if WEIGHTS in path and "alt=media" in path]

    def close(self):
        self.gcs.close()


@functools.cache
def certificate(folder):
    """A server's on 127.0.0.1 that vouches for itself; with its key, in one file."""
    path = folder / "server.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                    "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", folder / "certificate.pem"],
                   check=True, capture_output=True)
    path.write_text(path.read_text() + (folder / "certificate.pem").read_text())
    return path


class WebStore(Store):
    refusals = {
        "not found": not_found("/sql/adapter_config.json: HTTP 404, there is no such file"),
        "forbidden": forbidden("/sql/adapter_config.json: HTTP 403, forbidden", 'credentials were sent, of "token"'),
        "expired token": expired("/sql/adapter_config.json: HTTP 401", 'credentials were sent, of "token"'),
    }

    def __init__(self, scheme, folder):
        tls = None
        if scheme == "https":
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate(folder.parent))
            self.options = ("--ca-file", certificate(folder.parent))
        self.web = WebServer(FILES, key=f"Bearer {TOKEN}", tls=tls)
        self.wire = self.web.wire
        self.files = self.web.files
        self.url = f"{self.web.url}/sql"
        self.secrets = {"token": TOKEN}

    def mend(self):
        self.web.files, self.web.refusal = self.files, None

    def hide(self):
        self.web.files = {}

    def forbid(self):
        self.web.refusal = 403

    def expire(self):
        self.web.refusal = 401

    def gets(self):
        return self.web.gets(WEIGHTS)

    def close(self):
        self.web.close()


class FolderStore(Store):
    """A folder of the machine. What the sidecar cannot see is the engine's to judge."""

    has_server = False
    unseen = "there is no such folder here, or none that may be read"
    refusals = {
        "not found": Refusal(lambda store: store.hide(), 404, "AdapterRefused", ("/folder/sql", unseen), True,
                             (404, "Loading lora sql failed: No adapter found for /folder/sql")),
        "forbidden": Refusal(lambda store: store.forbid(), 500, "EngineError", ("/folder/sql", unseen), True,
                             (500, "Loading lora sql failed: [Errno 13] Permission denied: '/folder/sql'")),
        "a pipe, which nobody writes to": Refusal(lambda store: store.replace_by_pipe(), 400, "ArtifactInvalid", (WEIGHTS,)),
        "cut at 64 KiB": Refusal(lambda store: store.cut(1 << 16), 400, "ArtifactInvalid", (WEIGHTS,)),
        "cut at 1 MiB": Refusal(lambda store: store.cut(1 << 20), 400, "ArtifactInvalid", (WEIGHTS,)),
    }

    def __init__(self, scheme, folder):
        self.folder = folder / "folder/sql"
        self.folder.mkdir(parents=True)
        self.url = f"{'file://' if scheme == 'file' else ''}{self.folder}"
        self.secrets = {}
        if os.geteuid() == 0:  # who may read everything is not refused
            rights = "-dac_override,-dac_read_search"
            self.prefix = ("setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}")
        self.mend()

    def mend(self):
        if self.away.exists():
            self.away.rename(self.folder)
        self.folder.chmod(0o755)
        (self.folder / WEIGHTS).unlink(missing_ok=True)
        for name, content in FILES.items():
            (self.folder / name).write_bytes(content)

    @property
    def away(self):
        return self.folder.with_name("away")

    def hide(self):
        self.folder.rename(self.away)

    def forbid(self):
        self.folder.chmod(0)

    def replace_by_pipe(self):
        (self.folder / WEIGHTS).unlink()
        os.mkfifo(self.folder / WEIGHTS)

    def cut(self, length):
        os.truncate(self.folder / WEIGHTS, length)

    def gets(self):
        return []

    def close(self):
        self.mend()


STORES = {"hf": HubStore, "huggingface": HubStore, "s3": S3Store, "tos": S3Store, "gs": GcsStore, "gcs": GcsStore, "http": WebStore,
          "https": WebStore, "path": FolderStore, "file": FolderStore}
