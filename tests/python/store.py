"""As much of an S3 server as is read, on this machine, and what may go wrong with it."""

import hashlib
import http.server
import threading
import time
import urllib.parse


class Store(http.server.ThreadingHTTPServer):
    """As much of S3 as is read: HEAD, ranges and listings of objects in memory, and what may go wrong with each."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.objects = {}
        self.refuse = 0  # that many requests are answered with 503
        self.stall = False  # GET of an object gets no answer
        self.heeds_conditions = True
        self.swap = None  # (key, bytes): what the object is from the third GET on
        self.gets = 0
        self.delay = 0.0  # seconds before every answer
        self.waiting, self.most_waiting, self.lock = 0, 0, threading.Lock()  # requests that wait for it, now and at most
        self.cut = 0  # that many answers to GET end in the middle
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def environment(self):
        return {
            "AWS_ENDPOINT": f"http://user:SECRET@127.0.0.1:{self.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_REGION": "us-east-1",
        }


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        store = self.server
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        key = urllib.parse.unquote(url.path).removeprefix("/bucket").lstrip("/")
        store.asked.append((self.command, key, dict(self.headers)))
        with store.lock:
            store.waiting += 1
            store.most_waiting = max(store.most_waiting, store.waiting)
        time.sleep(store.delay)
        with store.lock:
            store.waiting -= 1
        if store.refuse > 0:
            store.refuse -= 1
            return self.send(503)
        if "list-type" in query:
            prefix = query.get("prefix", [""])[0]
            entry = "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>"
            found = "".join(entry.format(k, tag(v).replace('"', "&quot;"), len(v)) for k, v in sorted(store.objects.items()) if k.startswith(prefix))
            return self.send(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode())
        if key not in store.objects:
            return self.send(404)
        if self.command == "GET":
            store.gets += 1
            if store.swap and store.gets >= 3:
                store.objects[store.swap[0]] = store.swap[1]
            if store.stall:
                time.sleep(600)
        data = store.objects[key]
        wanted = self.headers.get("If-Match")
        if wanted and wanted != tag(data) and store.heeds_conditions:
            return self.send(412)
        headers = {"ETag": tag(data), "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if self.command == "HEAD":
            return self.send(200, Content_Length=str(len(data)), **headers)
        first, last = (int(x) for x in self.headers["Range"].removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        if store.cut > 0:
            store.cut -= 1
            self.close_connection = True
            length = str(len(part))
            return self.send(206, part[: len(part) // 2], Content_Length=length, Content_Range=f"bytes {first}-{last}/{len(data)}", **headers)
        self.send(206, part, Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(data)}", **headers)


def tag(data):
    return '"' + hashlib.md5(data).hexdigest() + '"'
