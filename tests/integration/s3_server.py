"""A server that speaks S3 and asks for credentials: moto, in a process of its own."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from analytics_pipeline.local_stack.ports import free_port
from tests.waiting import wait_for

BUCKET = "archive"
_RIGHTS = {"analytics": ["s3:*"], "reader": ["s3:Get*", "s3:List*", "s3:HeadBucket"]}


@dataclass
class S3Server:
    """Where it is, and what lets one in: as the variables of AWS' tools."""

    variables: dict[str, str]
    of_a_reader: dict[str, str]
    process: subprocess.Popen[bytes]

    def client(self) -> Any:
        """Of boto3, for what a test wants to see or to spoil."""
        return boto3.client(
            "s3",
            endpoint_url=self.variables["AWS_ENDPOINT_URL"],
            region_name=self.variables["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.variables["AWS_SECRET_ACCESS_KEY"],
        )

    def found(self, prefix: str = "") -> list[str]:
        found = self.client().list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [each["Key"] for each in found.get("Contents", [])]


@contextlib.contextmanager
def running(folder: Path) -> Iterator[S3Server]:
    """Started with an empty bucket and one user; ended afterwards."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "s3.log").open("wb") as log:
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(url, process), 60, f"moto answers: see {folder}/s3.log")
        yield S3Server(*_prepare(url), process)
    finally:
        process.kill()
        process.wait()


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None
    try:
        with urllib.request.urlopen(f"{url}/moto-api/", timeout=1):
            return True
    except OSError:
        return False


def _prepare(url: str) -> list[dict[str, str]]:
    """Make the bucket, and the users of `_RIGHTS`; the variables of each."""
    place = {"endpoint_url": url, "region_name": "eu-central-1"}
    anybody = {**place, "aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
    boto3.client("s3", **anybody).create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    people = boto3.client("iam", **anybody)
    found = []
    for name, actions in _RIGHTS.items():
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        people.create_user(UserName=name)
        people.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=policy)
        key = people.create_access_key(UserName=name)["AccessKey"]
        found.append(
            {
                "AWS_ENDPOINT_URL": url,
                "AWS_DEFAULT_REGION": "eu-central-1",
                "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            }
        )
    _ask_for_credentials(url)
    return found


def _ask_for_credentials(url: str) -> None:
    """Of the next request on; signatures are verified."""
    headers = {"Content-Type": "text/plain"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", headers, method="POST")
    ) as answer:
        assert answer.status == 200
