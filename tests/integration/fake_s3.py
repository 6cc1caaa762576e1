"""S3 on loopback, as strict as the real one: it verifies signatures, clocks, tokens, regions and rights; and STS, ECS and EC2's services.

As a program it serves folders:   python3 fake_s3.py FOLDER [--port N]      FOLDER/sql is s3://demo/sql; prints its URL and keys.

The signature is computed here from the specification, not by the code under test; test_artifact_s3.py has boto3 judge the server.
"""

import argparse
import base64
import hashlib
import hmac
import json
import re
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, quote, quote_plus, unquote, urlsplit
from xml.sax.saxutils import escape

from wire import Wire, WiredServer

EMPTY = hashlib.sha256(b"").hexdigest()
ALGORITHM = "AWS4-HMAC-SHA256"


# ---- Signature Version 4, "Signing AWS API requests", AWS IAM User Guide ----

def canonical_query(query):
    pairs = [(quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(query.replace("+", "%2B"), True)]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def signature(secret, method, path, query, fields, signed, payload, date, scope):
    lines = "".join(f"{name}:{' '.join(fields[name].split())}\n" for name in signed)
    request = "\n".join((method, path, canonical_query(query), lines, ";".join(signed), payload))
    text = "\n".join((ALGORITHM, date, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def sign(method, url, access_key, secret, body=b"", region="us-east-1", extra=()):
    """The fields of a signed request."""
    parts = urlsplit(url)
    date = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    payload = hashlib.sha256(body).hexdigest()
    fields = {"host": parts.netloc, "x-amz-date": date, "x-amz-content-sha256": payload, **dict(extra)}
    signed = sorted(fields)
    found = signature(secret, method, parts.path, parts.query, fields, signed, payload, date, scope)
    del fields["host"]
    return {**fields, "Authorization": f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={';'.join(signed)}, Signature={found}"}


# ---- what there is ----

class Refusal(Exception):
    def __init__(self, status, code, message="", **elements):
        super().__init__(message)
        self.status, self.code, self.elements = status, code, elements
        self.fields = {}


class Object:
    def __init__(self, data, etag=None, **fields):
        self.data = data
        self.etag = f'"{etag or hashlib.md5(data).hexdigest()}"'
        self.fields = {name.replace("_", "-"): value for name, value in fields.items()}


class Bucket:
    def __init__(self, region):
        self.region, self.objects, self.is_public = region, {}, False
        self.is_listed = True  # False = whoever may read may not list


class User:
    def __init__(self, secret, token=None, is_expired=False, buckets=None):
        self.secret, self.token, self.is_expired, self.buckets = secret, token, is_expired, buckets


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_):
        pass

    def handle_one(self):
        s3, parts = self.server.s3, urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.fields = {name.lower(): value for name, value in self.headers.items()}
        with s3.lock:
            s3.requests.append((self.command, self.path, self.fields, self.body))
        s3.on_request(self.command, self.path)
        if s3.faults and (fault := s3.take_fault(self.command, parts.path)):
            raise Refusal(*fault)
        for prefix, function in s3.services.items():
            if parts.path.startswith(prefix) and self.command in ("GET", "PUT", "POST"):
                return self.reply(*function(self))
        self.answer(s3, parts)

    def do_GET(self):
        try:
            self.handle_one()
        except Refusal as refusal:
            elements = {"Code": refusal.code, "Message": str(refusal), **refusal.elements, "RequestId": "1"}
            text = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in elements.items())
            body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{text}</Error>'.encode()
            self.reply(refusal.status, body, {"Content-Type": "application/xml", **refusal.fields})

    do_HEAD = do_PUT = do_POST = do_GET

    def reply(self, status, body, fields):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.server.s3.wire.send(self, body)

    # ---- who asks ----

    def place(self, s3, parts):
        """Bucket and key, by host or by path."""
        host = self.fields["host"].split(":")[0]
        for suffix in s3.virtual_hosts:
            if host.endswith("." + suffix):
                return host[:-len(suffix) - 1], unquote(parts.path[1:])
        bucket, _, key = parts.path[1:].partition("/")
        return unquote(bucket), unquote(key)

    def user(self, s3, parts, bucket):
        """Who signed it; None = nobody."""
        text = self.fields.get("authorization")
        if text is None:
            return None
        scope = r"((\d{8})/([^/]+)/s3/aws4_request)"
        match = re.fullmatch(rf"{ALGORITHM} Credential=([^/]+)/{scope}, SignedHeaders=(\S+), Signature=([0-9a-f]{{64}})", text)
        if not match:
            raise Refusal(400, "AuthorizationHeaderMalformed", "The authorization header is malformed")
        access_key, scope, day, region, signed, found = match.groups()
        signed, date = signed.split(";"), self.fields.get("x-amz-date", "")
        must = ["host"] + [name for name in self.fields if name.startswith("x-amz-")]
        if signed != sorted(signed) or not set(must) <= set(signed) or not date.startswith(day):
            raise Refusal(403, "AccessDenied", "There were headers present in the request which were not signed")
        if "x-amz-content-sha256" not in self.fields:
            raise Refusal(400, "MissingSecurityHeader", "Missing required header for this request: x-amz-content-sha256")
        user = s3.users.get(access_key)
        if user is None:
            raise Refusal(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.",
                          AWSAccessKeyId=access_key)
        if bucket is not None and region != bucket.region:
            raise Refusal(400, "AuthorizationHeaderMalformed", f"the region '{region}' is wrong; expecting '{bucket.region}'",
                          Region=bucket.region)
        expected = signature(user.secret, self.command, parts.path, parts.query, self.fields, signed, self.fields["x-amz-content-sha256"],
                             date, scope)
        if not hmac.compare_digest(expected, found):
            raise Refusal(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.",
                          StringToSign="AWS4-HMAC-SHA256 ...", SignatureProvided=found)
        moment = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
        if abs(time.time() + s3.clock_offset - moment) > 900:
            raise Refusal(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
        if self.fields.get("x-amz-security-token") != user.token:
            raise Refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
        if user.is_expired:
            raise Refusal(400, "ExpiredToken", "The provided token has expired.")
        return user

    def answer(self, s3, parts):
        name, key = self.place(s3, parts)
        bucket = s3.buckets.get(name)
        user = self.user(s3, parts, bucket)
        if bucket is None:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist", BucketName=name)
        if user is None and bucket.region != s3.region:
            refusal = Refusal(301, "PermanentRedirect", "The bucket must be addressed using the specified endpoint.", Bucket=name)
            refusal.fields = {"x-amz-bucket-region": bucket.region}
            raise refusal
        may_read = bucket.is_public if user is None else user.buckets is None or name in user.buckets
        if not may_read or (not key and not bucket.is_listed) or (key and key not in bucket.objects and not bucket.is_listed):
            raise Refusal(403, "AccessDenied", "Access Denied")
        if not key:
            return self.list(s3, name, bucket, {name: values[0] for name, values in parse_qs(parts.query, True).items()})
        if key not in bucket.objects:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.", Key=key)
        return self.send_object(bucket.objects[key])

    # ---- what is answered ----

    def list(self, s3, name, bucket, query):
        if query.get("list-type") != "2":
            raise Refusal(501, "NotImplemented")
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        start = base64.b64decode(query["continuation-token"]).decode() if "continuation-token" in query else ""
        size = min(int(query.get("max-keys", 1000)), s3.page_size)
        encode = (lambda text: quote_plus(text, safe="/")) if query.get("encoding-type") == "url" else escape
        rows, last, count, is_more, seen = [], "", 0, False, set()
        for key in sorted(bucket.objects, key=str.encode):
            if not key.startswith(prefix):
                continue
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            item = key[:end + 1] if end >= 0 else key
            if item in seen or item.encode() <= start.encode():
                continue
            if count == size:
                is_more = True
                break
            seen.add(item)
            found = bucket.objects[key]
            rows.append(f"<CommonPrefixes><Prefix>{encode(item)}</Prefix></CommonPrefixes>" if end >= 0 else
                        f"<Contents><Key>{encode(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                        f"<ETag>{escape(found.etag, {chr(34): '&quot;'})}</ETag><Size>{len(found.data)}</Size></Contents>")
            last, count = item, count + 1
        more = f"<NextContinuationToken>{base64.b64encode(last.encode()).decode()}</NextContinuationToken>" if is_more else ""
        encoding = "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""
        body = (f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<Name>{name}</Name><Prefix>{encode(prefix)}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{size}</MaxKeys>"
                f"<IsTruncated>{str(is_more).lower()}</IsTruncated>{more}{''.join(rows)}{encoding}</ListBucketResult>")
        self.reply(200, body.encode(), {"Content-Type": "application/xml"})

    def send_object(self, found):
        s3 = self.server.s3
        fields = {"ETag": found.etag, "Accept-Ranges": "bytes", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        fields |= {name: value for name, value in found.fields.items()
                   if not name.startswith("x-amz-checksum-") or "x-amz-checksum-mode" in self.fields}
        if self.fields.get("if-match", found.etag) != found.etag:
            raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
        data = s3.wire.spoil(found.data) if self.command == "GET" else found.data
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.fields.get("range", ""))
        if not match:
            return self.reply(200, data, fields)
        first, last = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
        if first >= len(data):
            raise Refusal(416, "InvalidRange", "The requested range is not satisfiable")
        return self.reply(206, data[first:last + 1], {**fields, "Content-Range": f"bytes {first}-{last}/{len(data)}"})


class FakeS3:
    def __init__(self, port=0, region="us-east-1"):
        self.region, self.buckets, self.users, self.requests = region, {}, {}, []
        self.virtual_hosts = ["s3.test"]
        self.page_size, self.clock_offset = 1000, 0
        self.on_request = lambda method, path: None  # a test's: before an answer
        self.wire = Wire()
        self.faults = []  # [method, part of the path, times, (status, code, message)]
        self.services = {}  # path's beginning -> function(handler) -> status, body, fields
        self.lock = threading.Lock()
        self.server = WiredServer(("127.0.0.1", port), Handler, self.wire)
        self.server.s3 = self
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.close()

    def put(self, bucket, key, data, region=None, **fields):
        objects = self.buckets.setdefault(bucket, Bucket(region or self.region)).objects
        objects[key] = Object(data, **fields)

    def put_folder(self, bucket, prefix, folder, **options):
        for path in sorted(Path(folder).iterdir()):
            if path.is_file():
                self.put(bucket, prefix + path.name, path.read_bytes(), **options)

    def take_fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault[2] > 0 and fault[0] == method and fault[1] in path:
                    fault[2] -= 1
                    return fault[3]
        return None

    def asked(self, method, part=""):
        return [request for request in self.requests if request[0] == method and part in request[1]]

    # ---- services that lend keys ----

    def lend(self, access_key, lifetime_s=3600):
        """A new user of temporary keys: (secret, token, expiration)."""
        secret, token = f"secret-of-{access_key}", f"token-of-{access_key}"
        self.users[access_key] = User(secret, token)
        return secret, token, datetime.fromtimestamp(time.time() + lifetime_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    def serve_sts(self, path, role, web_token, next_key):
        def answer(handler):
            form = {name: values[0] for name, values in parse_qs(handler.body.decode()).items()}
            if form.get("WebIdentityToken") != web_token or form.get("RoleArn") != role or form["Version"] != "2011-06-15":
                return 400, (b"<ErrorResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><Error><Code>InvalidIdentityToken</Code>"
                             b"<Message>no: " + form["WebIdentityToken"].encode() + b"</Message></Error></ErrorResponse>"), {}
            key = next_key()
            secret, token, until = self.lend(key)
            return 200, ("<AssumeRoleWithWebIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'>"
                         "<AssumeRoleWithWebIdentityResult><Credentials>"
                         f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>"
                         f"<Expiration>{until}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
                         "</AssumeRoleWithWebIdentityResponse>").encode(), {}
        self.services[path] = answer

    def serve_container(self, path, authorization, key):
        def answer(handler):
            if handler.fields.get("authorization") != authorization:
                return 401, b"{}", {}
            secret, token, until = self.lend(key)
            return 200, json.dumps({"AccessKeyId": key, "SecretAccessKey": secret, "Token": token, "Expiration": until}).encode(), {}
        self.services[path] = answer

    def serve_machine(self, key):
        def answer(handler):
            path = handler.path
            if path == "/latest/api/token":
                return (200, b"imds", {}) if handler.command == "PUT" and handler.fields.get(
                    "x-aws-ec2-metadata-token-ttl-seconds") else (405, b"", {})
            if handler.fields.get("x-aws-ec2-metadata-token") != "imds":
                return 401, b"", {}
            if path.endswith("/security-credentials/"):
                return 200, b"reader", {}
            secret, token, until = self.lend(key)
            return 200, json.dumps({"Code": "Success", "AccessKeyId": key, "SecretAccessKey": secret, "Token": token,
                                    "Expiration": until}).encode(), {}
        self.services["/latest/"] = answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8091)
    arguments = parser.parse_args()
    s3 = FakeS3(arguments.port)
    s3.users["demo-key"] = User("demo-secret")
    for folder in sorted(arguments.folder.iterdir()):
        if (folder / "adapter_config.json").exists():
            s3.put_folder("demo", folder.name + "/", folder)
            print(f"s3://demo/{folder.name}")
    print(f"serving on {s3.url} to demo-key, demo-secret", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        s3.close()


if __name__ == "__main__":
    main()
