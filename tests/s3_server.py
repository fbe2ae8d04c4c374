"""A real S3 server on loopback, for tests: moto's, in a process of its own that ends with the one that started it.

Run as a program it serves until its stdin is closed, says its port on stdout, and the requests it gets on stderr. It is
nobody's child: tests look at theirs, and wait for all of them.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

REGION = "us-east-1"


class S3Server:
    """The server, and a client that is not ours to look at it with."""

    def __init__(self, log: Path) -> None:
        self.log = log
        stdin, self._lifeline = os.pipe()
        output, stdout = os.pipe()
        with log.open("wb") as stderr:
            command = f"exec 3<&0; {shlex.join([sys.executable, __file__])} <&3 3<&- &"
            subprocess.run(["bash", "-c", command], stdin=stdin, stdout=stdout, stderr=stderr, check=True)
        os.close(stdin)
        os.close(stdout)
        self._output = os.fdopen(output)
        self.endpoint = f"http://127.0.0.1:{int(self._output.readline())}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test-key",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        import boto3  # 300 ms that only those who use S3 need pay

        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="test-key",
            aws_secret_access_key="test-secret",
            region_name=REGION,
        )

    def close(self) -> None:
        self.client.close()
        os.close(self._lifeline)
        with self._output:
            assert self._output.read() == ""  # until it has ended


class Bucket:
    """A bucket of one test, and what somebody else sees in it."""

    _numbers: ClassVar = itertools.count(1)

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.name = f"bucket-{next(self._numbers)}"
        self.url = f"s3://{self.name}"
        self._log_bytes = 0
        server.client.create_bucket(Bucket=self.name)
        self.take_requests()

    def put(self, key: str, content: bytes = b"") -> None:
        self.server.client.put_object(Bucket=self.name, Key=key, Body=content)

    def contents(self) -> dict[str, bytes]:
        return {
            key: self.server.client.get_object(Bucket=self.name, Key=key)["Body"].read() for key in self.list_keys()
        }

    def list_keys(self) -> list[str]:
        pages = self.server.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def unfinished(self) -> list[str]:
        """Keys of multipart uploads that are neither completed nor aborted."""
        return [item["Key"] for item in self.server.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())]

    def abort_all(self) -> None:
        for item in self.server.client.list_multipart_uploads(Bucket=self.name)["Uploads"]:
            self.server.client.abort_multipart_upload(Bucket=self.name, Key=item["Key"], UploadId=item["UploadId"])

    def refuse(self, action: str = "s3:*", below: str = "") -> None:
        """Nobody may do that any more with what is `below`."""
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": action,
            "Resource": f"arn:aws:s3:::{self.name}/{below}*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.server.client.put_bucket_policy(Bucket=self.name, Policy=policy)

    def take_requests(self) -> list[str]:
        """The requests about this bucket since the last call: "PUT /bucket/key"."""
        data = self.server.log.read_bytes()
        text, self._log_bytes = data[self._log_bytes :].decode(), len(data)
        found = re.findall(r'"(?:\x1b\[[0-9;]*m)*([A-Z]+ /[^ ?]*(?:\?[^ ]*)?) HTTP', text)
        return [request for request in found if f"/{self.name}" in request]


def serve() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.INFO)
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    print(server.server_port, flush=True)  # noqa: T201
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    serve()
