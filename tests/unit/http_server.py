"""A running agent-server, as tests of HTTP see it: raw requests, nothing hidden."""

import json
import os
import subprocess
import sys

import requests


class HttpServer:
    """An agent-server in a process of its own, on free ports."""

    def __init__(self, home, *options, start=("-m", "agentpipe.cmds.agent_server")):
        self.home = str(home)
        self.log = os.path.join(self.home + ".stderr")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AGENT_", "CLEARML_"))}
        environment = {**clean, "AGENT_HOME": self.home, "USER": "ann"}
        with open(self.log, "wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *start, "--json", "--port", "0", "--files-port", "0",
                 *options], env=environment, stdout=subprocess.PIPE, stderr=errors)
        line = self.process.stdout.readline()
        assert line, self.said()
        self.ready = json.loads(line)
        self.api, self.files = self.ready["api_server"], self.ready["files_server"]
        self.keys = (self.ready["access_key"], self.ready["secret_key"]) if "access_key" in self.ready else None

    def token(self, **options):
        return self.post("auth.login", auth=self.keys, **options).json()["data"]["token"]

    def bearer(self):
        return {"Authorization": "Bearer " + self.token()}

    def post(self, path, body=None, **options):
        """The raw answer of a request without any authentication of its own."""
        options.setdefault("timeout", 30)
        return requests.post(f"{self.api}/{path}", json=body, **options)

    def call(self, endpoint, body=None, **fields):
        """The data of a successful call with the first keys."""
        answer = self.post(endpoint, body or fields, auth=self.keys)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def said(self):
        with open(self.log, encoding="utf-8") as text:
            return text.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.stdout.close()
        return self.process.wait(30)
