"""s3:// and tos:// through `davit pull`, against a server that verifies every signature (fake_s3.py, which boto3 judges), and moto."""

import base64
import hashlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from fake_s3 import FakeS3, User
from world import ROOT, SLOW, TINY

DAVIT = Path(os.environ.get("DAVIT", ROOT / "build/release/davit")).resolve()
ADAPTER = TINY / "adapter-a"
FILES = ("adapter_config.json", "adapter_model.safetensors")
SECRET = "s3cret/of+the=user"
TOKEN = "s3cret-t0ken/of+a=session"
KEYS = {"AWS_ACCESS_KEY_ID": "AKUSER", "AWS_SECRET_ACCESS_KEY": SECRET}
NO_KEYS = {name: "" for name in KEYS}


@pytest.fixture
def s3():
    s3 = FakeS3()
    s3.users["AKUSER"] = User(SECRET)
    s3.put_folder("models", "a/sql/", ADAPTER)
    yield s3
    s3.close()


class Puller:
    """`davit pull` on a machine of its own: a home, a cache, a folder for what comes."""

    def __init__(self, s3, folder):
        self.s3, self.folder, self.count = s3, folder, 0
        (folder / "home").mkdir()

    def pull(self, url, *options, secrets=None, **environment):
        self.count += 1
        target = self.folder / f"pulled-{self.count}"
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("AWS_", "TOS_", "XDG_", "DAVIT_CACHE")) and "proxy" not in name.lower()}
        for name, value in (secrets or {}).items():
            path = self.folder / f"secret-{self.count}-{name}"
            path.write_text(value)
            options += ("--secret-file", f"{name}={path}")
        started = time.monotonic()
        result = subprocess.run([DAVIT, "pull", url, "--to", target, "--cache", self.folder / "cache", *options], capture_output=True,
                                env={**clean, "HOME": str(self.folder / "home"), "AWS_ENDPOINT_URL": self.s3.url,
                                     "AWS_EC2_METADATA_DISABLED": "true", **KEYS, **environment},
                                text=True, timeout=60 * SLOW)
        self.seconds = time.monotonic() - started
        for word in ("s3cret", "secret-of-", "token-of-"):
            assert word not in result.stdout + result.stderr, result.stderr
        return target, result

    def good(self, url, *options, **environment):
        target, result = self.pull(url, *options, **environment)
        assert result.returncode == 0, result.stderr
        assert sorted(path.name for path in target.glob("[!.]*")) == list(FILES)
        for name in FILES:
            assert (target / name).read_bytes() == (ADAPTER / name).read_bytes(), name
        return result

    def refused(self, url, *words, **environment):
        target, result = self.pull(url, **environment)
        assert result.returncode != 0 and not target.exists(), result.stdout
        for word in words:
            assert word in result.stderr, result.stderr


@pytest.fixture
def puller(s3, tmp_path):
    return Puller(s3, tmp_path)


def client(url, **options):
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **{
        "aws_access_key_id": "AKUSER", "aws_secret_access_key": SECRET, **options,
        "config": Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, request_checksum_calculation="when_required")})


# ---- the server itself ----

def test_boto3_takes_the_server_for_s3(s3):
    s3.page_size = 2
    for name in ("b c/x+y=z.txt", "b c/größe", "b c/sub/1", "b c/sub/2", "b c/~"):
        s3.put("models", name, name.encode())
    real = client(s3.url)
    pages = real.get_paginator("list_objects_v2").paginate(Bucket="models", Prefix="b c/", Delimiter="/")
    rows = [(row["Key"], row["Size"]) for page in pages for row in page.get("Contents", [])]
    assert rows == [(name, len(name.encode())) for name in ("b c/größe", "b c/x+y=z.txt", "b c/~")]
    found = real.get_object(Bucket="models", Key="b c/größe", Range="bytes=2-3")
    assert found["Body"].read() == "b c/größe".encode()[2:4] and found["ETag"] == f'"{hashlib.md5("b c/größe".encode()).hexdigest()}"'
    for options, code in (({"aws_secret_access_key": "other"}, "SignatureDoesNotMatch"), ({"aws_session_token": "t"}, "InvalidToken"),
                          ({"aws_access_key_id": "AKNONE"}, "InvalidAccessKeyId")):
        with pytest.raises(ClientError) as error:
            client(s3.url, **options).list_objects_v2(Bucket="models")
        assert error.value.response["Error"]["Code"] == code


# ---- what is there ----

@pytest.mark.parametrize("url", ["s3://models/a/sql", "s3://models/a/sql/", "s3://models/a/sql/adapter_model.safetensors"])
def test_a_folder_with_and_without_its_slash(s3, puller, url):
    s3.put("models", "a/sql/", b"")
    s3.put("models", "a/sql-2/adapter_config.json", b"not asked for")
    s3.put("models", "a/sql/README.md", b"not asked for")
    s3.put("models", "a/sql/checkpoint-1/adapter_config.json", b"{}")
    s3.put("models", "a/sql/../adapter_config.json", b"{}")
    puller.good(url)
    assert {path.split("/")[-1] for _, path, _, _ in s3.asked("GET", "/a/sql/")} == set(FILES)


def test_what_came_before_is_not_brought_again(s3, puller):
    puller.good("s3://models/a/sql")
    s3.requests.clear()
    puller.good("s3://models/a/sql")
    assert not s3.asked("GET", "/a/sql/")
    s3.put("models", "a/sql/adapter_config.json", json.dumps({**json.loads((ADAPTER / FILES[0]).read_text()), "lora_alpha": 99}).encode())
    target, result = puller.pull("s3://models/a/sql")
    assert result.returncode == 0 and json.loads((target / FILES[0]).read_text())["lora_alpha"] == 99


@pytest.mark.parametrize("prefix", ["with space", "a+b", "a=b&c", "größe", "100%", "a%20b", "s?l#", "a//b", "~!*'()", "日本語"])
def test_keys_that_need_encoding(s3, puller, prefix):
    s3.put_folder("models", prefix + "/", ADAPTER)
    puller.good(f"s3://models/{prefix}")


def test_five_thousand_objects_beside(s3, puller):
    for i in range(5000):
        s3.put("models", f"a/sql/0{i:04}.bin", b"x")
        s3.put("models", f"a/sql-{i}/adapter_config.json", b"{}")
    puller.good("s3://models/a/sql")
    assert len(s3.asked("GET", "list-type=2")) == 6


def test_a_listing_without_end(s3, puller):
    s3.page_size = 1
    for i in range(150):
        s3.put("models", f"a/sql/{i:04}", b"x")
    puller.refused("s3://models/a/sql", "s3://models/a/sql/", "more than 100 pages")


@pytest.mark.parametrize("url, words", [
    ("s3://models/none", ("404", "adapter_config.json")),
    ("s3://none/a", ("NoSuchBucket", "no such bucket")),
    ("s3://models/a/../sql", ('a part ".."',)),
    ("s3://models/./sql", ('a part "."',)),
    ("s3:///sql", ("expected s3://bucket/folder",)),
    ("s3://mod els/sql", ("expected s3://bucket/folder",)),
])
def test_what_there_is_not(puller, url, words):
    words = tuple(word for word in words if word != "404")
    puller.refused(url, *words)


def test_a_revision_is_refused(puller):
    _, result = puller.pull("s3://models/a/sql", "--revision", "v1")
    assert result.returncode != 0 and "expected no revision" in result.stderr


# ---- whose keys ----

def test_session_tokens(s3, puller):
    s3.users = {"ASIA": User(SECRET, TOKEN)}
    keys = {"AWS_ACCESS_KEY_ID": "ASIA"}
    puller.good("s3://models/a/sql", AWS_SESSION_TOKEN=TOKEN, **keys)
    puller.good("s3://models/a/sql", secrets={"aws_access_key_id": "ASIA\n", "AWS_SECRET_ACCESS_KEY": SECRET, "aws_session_token": TOKEN})
    puller.refused("s3://models/a/sql", "InvalidToken", "of the environment", **keys)


def test_an_adapters_own_keys(s3, puller):
    s3.users["AKTENANT"] = User("s3cret-of-the-tenant", buckets={"theirs"})
    s3.put_folder("theirs", "", ADAPTER)
    secrets = {"aws_access_key_id": "AKTENANT", "aws_secret_access_key": "s3cret-of-the-tenant"}
    puller.good("s3://theirs", secrets=secrets)
    puller.refused("s3://models/a/sql", "AccessDenied", "with the keys of the adapter's Secret", "s3:ListBucket", secrets=secrets)
    puller.refused("s3://theirs", "SignatureDoesNotMatch", "does not belong to the access key",
                   secrets={**secrets, "aws_secret_access_key": "s3cret-of-somebody"})
    puller.refused("s3://theirs", "InvalidAccessKeyId", secrets={**secrets, "aws_access_key_id": "AKNOBODY"})


@pytest.mark.parametrize("missing, there", [("aws_access_key_id", "aws_secret_access_key"), ("aws_secret_access_key", "aws_access_key_id"),
                                            ("aws_access_key_id", "aws_session_token")])
def test_half_a_secret_is_not_made_whole_by_the_process(s3, puller, missing, there):
    puller.refused("s3://models/a/sql", f"the adapter's Secret has no {missing}", there, secrets={there: "s3cret-half"})
    assert s3.requests == []


def test_the_processs_keys_stay_with_the_processs_server(s3, puller):
    other = FakeS3()
    try:
        other.put_folder("models", "a/sql/", ADAPTER)
        other.buckets["models"].is_public = True
        puller.good("s3://models/a/sql", secrets={"aws_endpoint_url": other.url})
        assert other.requests and not any("authorization" in fields for _, _, fields, _ in other.requests)
        other.buckets["models"].is_public = False
        puller.refused("s3://models/a/sql", "brings its keys too", secrets={"endpoint": other.url})
        other.users["AKTENANT"] = User(SECRET)
        puller.good("s3://models/a/sql", secrets={"endpoint": other.url, "aws_access_key_id": "AKTENANT", "aws_secret_access_key": SECRET})
        assert s3.requests == []
    finally:
        other.close()


def test_public_buckets_need_no_keys(s3, puller):
    s3.buckets["models"].is_public = True
    puller.good("s3://models/a/sql", **NO_KEYS)
    s3.buckets["models"].is_public = False
    puller.refused("s3://models/a/sql", "without credentials", **NO_KEYS)


def test_who_may_read_and_not_list(s3, puller):
    s3.buckets["models"].is_listed = False
    puller.good("s3://models/a/sql")
    puller.refused("s3://models/none", "AccessDenied", "without s3:ListBucket what does not exist is denied too")


def test_who_may_list_and_not_read_gets_nothing_from_the_cache(s3, puller):
    puller.good("s3://models/a/sql")
    s3.faults = [["HEAD", "/", 100, (403, "AccessDenied", "no")]]
    puller.refused("s3://models/a/sql", "HTTP 403", "s3:GetObject")


def test_profiles(s3, puller, tmp_path):
    folder = tmp_path / "home/.aws"
    folder.mkdir()
    (folder / "credentials").write_text(f"# mine\n[default]\naws_access_key_id = AKNONE\naws_secret_access_key=x\n\n"
                                        f"[dev]\naws_access_key_id=AKUSER\naws_secret_access_key = {SECRET} # not to be shown\n")
    (folder / "config").write_text(f"[profile dev]\nservices = local\nregion = us-east-1\ns3 =\n  addressing_style = path\n"
                                   f"[services local]\ns3 =\n  endpoint_url = {s3.url}\n[profile other]\nsso_session = me\n")
    puller.good("s3://models/a/sql", AWS_PROFILE="dev", AWS_ENDPOINT_URL="", **NO_KEYS)
    puller.refused("s3://models/a/sql", "InvalidAccessKeyId", 'profile "default"', **NO_KEYS)
    puller.refused("s3://models/a/sql", 'profile "none"', AWS_PROFILE="none", **NO_KEYS)
    puller.refused("s3://models/a/sql", 'profile "other" says sso_session', AWS_PROFILE="other", **NO_KEYS)
    (tmp_path / "elsewhere").write_text(f"[default]\naws_access_key_id=AKUSER\naws_secret_access_key={SECRET}\n")
    puller.good("s3://models/a/sql", AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "elsewhere"), **NO_KEYS)
    (tmp_path / "elsewhere").write_text("[default]\ns3cret by itself\n")
    puller.refused("s3://models/a/sql", "elsewhere", "line 2", AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "elsewhere"), **NO_KEYS)


def test_a_web_identity(s3, puller, tmp_path):
    role = "arn:aws:iam::1:role/reader"
    s3.users = {}
    s3.serve_sts("/sts", role, "s3cret.web+token/=", lambda: "ASIAWEB")
    file = tmp_path / "token"
    file.write_text("s3cret.web+token/=\n")
    environment = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(file), "AWS_ROLE_ARN": role, "AWS_ENDPOINT_URL_STS": s3.url + "/sts", **NO_KEYS}
    puller.good("s3://models/a/sql", **environment)
    assert len(s3.asked("POST", "/sts")) == 1
    file.write_text("s3cret.other")
    puller.refused("s3://models/a/sql", "InvalidIdentityToken", "AWS_WEB_IDENTITY_TOKEN_FILE", **environment)
    puller.refused("s3://models/a/sql", "AWS_ROLE_ARN", **{**environment, "AWS_ROLE_ARN": ""})
    assert not any("token" in path.lower() for method, path, _, _ in s3.asked("POST"))


def test_a_containers_credentials(s3, puller, tmp_path):
    s3.users = {}
    s3.serve_container("/v1/credentials", "s3cret-eks", "ASIAPOD")
    (tmp_path / "token").write_text("s3cret-eks")
    environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": s3.url + "/v1/credentials", **NO_KEYS}
    puller.good("s3://models/a/sql", AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "token"), **environment)
    puller.good("s3://models/a/sql", AWS_CONTAINER_AUTHORIZATION_TOKEN="s3cret-eks", **environment)
    puller.refused("s3://models/a/sql", "the container's credentials", "HTTP 401", **environment)
    puller.refused("s3://models/a/sql", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "expected https",
                   **{**environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://192.0.2.1/x"})


def test_an_instances_role(s3, puller):
    s3.users = {}
    s3.serve_machine("ASIAEC2")
    puller.good("s3://models/a/sql", AWS_EC2_METADATA_SERVICE_ENDPOINT=s3.url, AWS_EC2_METADATA_DISABLED="false", **NO_KEYS)
    puller.refused("s3://models/a/sql", "without credentials", AWS_EC2_METADATA_SERVICE_ENDPOINT=s3.url, **NO_KEYS)


def test_keys_that_end_meanwhile_are_asked_for_anew(s3, puller):
    """What the service lends first is refused as expired; the second is good."""
    def on_request(method, path):
        if method == "GET" and "/models" in path and path.count("?") == 0:
            s3.users = {name: user for name, user in s3.users.items() if name != "ASIA1"}
    s3.users = {}
    keys = (f"ASIA{i}" for i in itertools.count(1))
    s3.serve_sts("/sts", "role", "web", lambda: next(keys))
    s3.on_request = on_request
    file = puller.folder / "token"
    file.write_text("web")
    puller.good("s3://models/a/sql", AWS_WEB_IDENTITY_TOKEN_FILE=str(file), AWS_ROLE_ARN="role", AWS_ENDPOINT_URL_STS=s3.url + "/sts",
                **NO_KEYS)
    assert len(s3.asked("POST", "/sts")) >= 2


def test_nothing_is_waited_for_on_a_machine_of_nobody(s3, puller):
    s3.buckets["models"].is_public = True
    puller.good("s3://models/a/sql", AWS_EC2_METADATA_DISABLED="", **NO_KEYS)
    assert puller.seconds < 5 * SLOW


# ---- where ----

def test_another_region_is_asked_in(s3, puller):
    s3.put_folder("far", "sql/", ADAPTER, region="eu-central-1")
    puller.good("s3://far/sql", AWS_REGION="eu-central-1")
    assert all("/eu-central-1/s3/" in fields["authorization"] for _, _, fields, _ in s3.requests)


def test_a_region_that_is_none_is_not_believed(s3, puller):
    puller.refused("s3://models/a/sql", "AWS_REGION: expected a region", AWS_REGION="evil.test/#")
    puller.refused("s3://models/a/sql", "aws_region: expected a region", secrets={"aws_region": "evil.test/#"})


@pytest.mark.parametrize("endpoint", ["ftp://127.0.0.1", "http://user:pass@127.0.0.1", "http://127.0.0.1/?a", "http://", "http://a b"])
def test_endpoints_that_are_none(puller, endpoint):
    puller.refused("s3://models/a/sql", "aws_endpoint_url", "expected an endpoint", secrets={"aws_endpoint_url": endpoint})


def test_a_bucket_as_a_hosts_name(s3, puller):
    s3.virtual_hosts = ["localhost"]
    endpoint = s3.url.replace("127.0.0.1", "localhost")
    puller.good("s3://models/a/sql", AWS_ENDPOINT_URL=endpoint, AWS_S3_ADDRESSING_STYLE="virtual")
    assert {fields["host"].split(":")[0] for _, _, fields, _ in s3.requests} == {"models.localhost"}
    puller.refused("s3://models/a/sql", "expected auto, path or virtual", AWS_S3_ADDRESSING_STYLE="sideways")


def test_tos(s3, puller):
    s3.region = "cn-beijing"
    s3.put_folder("lora", "sql/", ADAPTER)
    secrets = {"TOS_ACCESS_KEY": "AKUSER", "TOS_SECRET_KEY": SECRET}
    puller.good("tos://lora/sql/", secrets={**secrets, "endpoint": s3.url})
    puller.good("tos://lora/sql", TOS_ENDPOINT=s3.url, **secrets)
    puller.refused("tos://lora/sql", "the adapter's Secret has no tos_secret_key", secrets={"TOS_ACCESS_KEY": "AK", "tos_endpoint": s3.url})
    s3.users["AKUSER"].token = TOKEN
    puller.good("tos://lora/sql", secrets={**secrets, "TOS_SESSION_KEY": TOKEN, "tos_endpoint": s3.url, "tos_region": "cn-beijing"})


# ---- what goes wrong on the way ----

def test_a_clock_that_differs(s3, puller):
    s3.clock_offset = 3600
    puller.refused("s3://models/a/sql", "RequestTimeTooSkewed", "the clock of this machine differs")


@pytest.mark.parametrize("fault", [(503, "SlowDown", "Please reduce your request rate."), (500, "InternalError", "An error.")])
def test_a_busy_server_is_asked_again(s3, puller, fault):
    s3.faults = [["GET", "", 2, fault], ["HEAD", "", 1, fault], ["GET", FILES[1], 1, fault]]
    puller.good("s3://models/a/sql")


def test_a_timeout_that_is_said_with_400_is_tried_again(s3, puller):
    s3.faults = [["GET", FILES[1], 2, (400, "RequestTimeout", "Your socket connection was not read from.")]]
    puller.good("s3://models/a/sql")


def test_an_object_that_changes_while_it_is_read(s3, puller):
    """The files that come are of one state: the list is asked for again."""
    changed = []

    def on_request(method, path):
        if method == "GET" and path.endswith(FILES[1]) and not changed:
            changed.append(path)
            s3.put("models", "a/sql/adapter_model.safetensors", (ADAPTER / FILES[1]).read_bytes(), etag="another-etag")
    s3.on_request = on_request
    puller.good("s3://models/a/sql")
    assert len(s3.asked("GET", "list-type")) == 2


@pytest.mark.parametrize("fields", [
    {"etag": "0" * 32, "x_amz_server_side_encryption": "aws:kms"},
    {"etag": "0" * 32, "x_amz_server_side_encryption_customer_algorithm": "AES256"},
    {"etag": "0" * 32 + "-3"}, {"etag": "weird.etag~1"},
    {"etag": "0" * 32 + "-3", "x_amz_checksum_sha256": base64.b64encode(bytes(32)).decode() + "-3"},
    {"etag": "0" * 32 + "-3", "x_amz_checksum_sha256": base64.b64encode(bytes(32)).decode(), "x_amz_checksum_type": "COMPOSITE"},
])
def test_etags_and_checksums_that_are_none_of_the_content(s3, puller, fields):
    s3.put("models", "a/sql/" + FILES[1], (ADAPTER / FILES[1]).read_bytes(), **fields)
    puller.good("s3://models/a/sql")


def test_an_archived_object(s3, puller):
    s3.faults = [["GET", FILES[1], 100, (403, "InvalidObjectState", "The operation is not valid for the object's storage class")]]
    puller.refused("s3://models/a/sql", "InvalidObjectState", "restore it first")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><ListBucketResult>&a;</ListBucketResult>",
                                  b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
                                  b"<ListBucketResult><Contents><Key>a/sql/x</Key></Contents></ListBucketResult>",
                                  b"<a>" * 100000])
def test_listings_that_are_none(s3, puller, body):
    s3.services["/models"] = lambda handler: (200, body, {})
    puller.refused("s3://models/a/sql", "s3://models/a/sql/: the listing")


def test_a_redirect_is_not_followed(s3, puller):
    other = FakeS3()
    try:
        s3.services["/models"] = lambda handler: (307, b"", {"Location": other.url + "/models"})
        puller.refused("s3://models/a/sql", "HTTP 307")
        assert other.requests == []
    finally:
        other.close()


def test_a_metadata_address_is_no_endpoint(puller):
    puller.refused("s3://models/a/sql", "169.254.169.254", "not allowed", secrets={"endpoint": "http://169.254.169.254"})


# ---- a whole S3 of somebody else ----

@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = open(tmp_path_factory.mktemp("moto") / "log", "w")
    process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60 * SLOW
    while True:
        try:
            urllib.request.urlopen(url + "/moto-api/data.json", timeout=5).read()
            break
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None and time.monotonic() < deadline, "moto does not answer"
            time.sleep(0.05)
    real = client(url)
    real.create_bucket(Bucket="models")
    yield url, real
    process.kill()
    process.wait()
    log.close()


def test_moto(moto, puller):
    url, real = moto
    for prefix in ("sql/", "größe +=&/", "a/b/c d/"):
        for name in FILES:
            real.put_object(Bucket="models", Key=prefix + name, Body=(ADAPTER / name).read_bytes(), ChecksumAlgorithm="SHA256")
        puller.good(f"s3://models/{prefix}", AWS_ENDPOINT_URL=url)
    puller.refused("s3://models/none", "adapter_config.json", AWS_ENDPOINT_URL=url)
    puller.refused("s3://none/none", "NoSuchBucket", AWS_ENDPOINT_URL=url)


def test_moto_with_more_than_a_page(moto, puller):
    url, real = moto
    for i in range(1050):
        real.put_object(Bucket="models", Key=f"many/0{i:04}", Body=b"")
    for name in FILES:
        real.put_object(Bucket="models", Key="many/" + name, Body=(ADAPTER / name).read_bytes())
    puller.good("s3://models/many", AWS_ENDPOINT_URL=url)


def test_moto_with_an_object_put_in_parts(moto, puller):
    url, real = moto
    real.put_object(Bucket="models", Key="parts/" + FILES[0], Body=(ADAPTER / FILES[0]).read_bytes())
    upload = real.create_multipart_upload(Bucket="models", Key="parts/" + FILES[1])["UploadId"]
    part = real.upload_part(Bucket="models", Key="parts/" + FILES[1], UploadId=upload, PartNumber=1, Body=(ADAPTER / FILES[1]).read_bytes())
    real.complete_multipart_upload(Bucket="models", Key="parts/" + FILES[1], UploadId=upload,
                                   MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    puller.good("s3://models/parts", AWS_ENDPOINT_URL=url)
