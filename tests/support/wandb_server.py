"""A stand-in for the W&B server on loopback that answers only the requests of the real client.

`standin.runs[id]` holds what a run sent. `mode` is ok, hang (takes requests and never answers), slow
(answers after two seconds) or broken (answers 500).
"""

from __future__ import annotations

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW = 2.0


class Standin(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, mode: str = "ok", port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.mode = mode
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.runs: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self.closing.set()
        self.shutdown()
        super().__exit__(*error)

    def run(self, name: str) -> dict[str, Any]:
        """Return what a run sent: `lines` of history by number, and how many came `again`."""
        new: dict[str, Any] = {"lines": {}, "again": 0, "summary": {}, "files": {}, "starts": [], "exitcode": None}
        return self.runs.setdefault(name, new)

    def history(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for _, line in sorted(self.run(name)["lines"].items())]

    def answer(self, operation: str, variables: dict[str, Any]) -> Any:
        """Return the `data` of a GraphQL answer, or None for an unknown operation."""
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}}
        if operation == "Viewer":
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if operation == "RunResumeStatus":
            exists = variables["name"] in self.runs
            return {"model": {**project, "bucket": self.bucket(variables["name"]) if exists else None}}
        if operation == "UpsertBucket":
            run = self.run(variables["name"])
            run["starts"].append(variables)
            run |= {key: value for key, value in variables.items() if value is not None}
            bucket = {"id": variables["name"], "name": variables["name"], "displayName": variables.get("displayName")}
            inserted = len(run["starts"]) == 1
            return {"upsertBucket": {"bucket": {**bucket, "project": project}, "inserted": inserted}}
        if operation == "CreateRunFiles":
            files = [{"name": f, "uploadUrl": f"{self.url}/file/{variables['run']}/{f}"} for f in variables["files"]]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        return self.artifact(operation, variables)

    def bucket(self, name: str) -> dict[str, Any]:
        run, rows = self.run(name), self.history(name)
        tail = json.dumps([json.dumps(rows[-1])] if rows else [])
        counts = {"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0}
        texts = {"historyTail": tail, "eventsTail": "[]", "summaryMetrics": json.dumps(run["summary"])}
        # Without `t` the client takes the run for one that never began.
        telemetry = json.dumps({"t": json.loads(run["config"])["_wandb"]["value"]["t"]})
        return {
            "id": name,
            "name": name,
            **counts,
            **texts,
            "config": run["config"],
            "wandbConfig": telemetry,
            "tags": [],
        }

    def artifact(self, operation: str, variables: dict[str, Any]) -> Any:
        """Answer the steps of an upload: create, manifest (a file like others), files, commit."""
        if operation == "CreateArtifact":
            artifact = {
                "id": str(len(self.artifacts)),
                "state": "PENDING",
                "artifactSequence": {"latestArtifact": None},
            }
            self.artifacts.append({**variables["input"], "files": {}, "committed": False})
            return {"createArtifact": {"artifact": artifact}}
        if operation == "CreateArtifactManifest":
            url = f"{self.url}/artifact/{variables['artifactID']}/{variables['name']}"
            file = {"id": "f", "uploadUrl": url, "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}
        if operation == "CreateArtifactFiles":
            nodes = []
            for file in variables["input"]["artifactFiles"]:
                url = f"{self.url}/artifact/{file['artifactID']}/{file['name']}"
                node = {"storagePath": file["name"], "uploadUrl": url, "uploadHeaders": [], "uploadMultipartUrls": None}
                nodes.append({"node": {**node, "artifact": {"id": file["artifactID"]}}})
            return {"createArtifactFiles": {"files": {"edges": nodes}}}
        if operation == "CommitArtifact":
            artifact = self.artifacts[int(variables["artifactID"])]
            artifact["committed"] = True
            return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": artifact["digest"]}}}
        return None


class Handler(BaseHTTPRequestHandler):
    server: Standin

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/graphql":
            request = json.loads(body)
            operation = re.search(r"(?:query|mutation) (\w+)", request["query"]).group(1)
            with self.server.lock:
                data = self.server.answer(operation, request.get("variables") or {})
            self.reply({"data": data} if data else {"errors": [{"message": f"{operation}: not served here"}]})
        elif self.path.endswith("/file_stream"):
            with self.server.lock:
                self.stream(self.path.split("/")[-2], json.loads(body))
            self.reply({"exitcode": None, "limits": {}})
        else:
            self.reply({}, code=404)

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        run = self.server.run(name)
        for file, chunk in (sent.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                sent_lines = dict(enumerate(chunk["content"], start=chunk["offset"]))
                run["again"] += len(sent_lines.keys() & run["lines"].keys())
                run["lines"] |= sent_lines
            if file == "wandb-summary.json":
                run["summary"] = json.loads(chunk["content"][-1])
        if sent.get("complete"):
            run["exitcode"] = sent["exitcode"]

    def do_PUT(self) -> None:
        body = self.body()
        kind, owner, path = self.path[1:].split("/", 2)
        with self.server.lock:
            files = self.server.run(owner)["files"] if kind == "file" else self.server.artifacts[int(owner)]["files"]
            files[path] = body
        self.reply({})

    def do_GET(self) -> None:
        self.body()
        self.reply({}, code=404)

    def body(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.mode == "hang":
            self.server.closing.wait()
        elif self.server.mode == "slow":
            self.server.closing.wait(SLOW)
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def reply(self, content: dict[str, Any], code: int = 200) -> None:
        text = json.dumps(content).encode()
        self.send_response(500 if self.server.mode == "broken" else code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words: object) -> None:
        """Quiet."""
