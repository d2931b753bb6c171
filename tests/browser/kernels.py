"""The kernel behind a lesson, asked from beside the page."""

import ast
from contextlib import contextmanager

import psutil
from jupyter_client import BlockingKernelClient


class Kernel:
    """A running kernel: what its expressions are worth, and how much memory it takes."""

    def __init__(self, client, process):
        self._client = client
        self._process = process

    def evaluate(self, expression):
        """Return what an expression is worth to the next cell: a number, text, a dict of these."""
        asked = self._client.execute("", silent=True, user_expressions={"it": expression})
        reply = self._client.get_shell_msg(timeout=30)
        assert reply["parent_header"]["msg_id"] == asked
        answer = reply["content"]["user_expressions"]["it"]
        assert answer["status"] == "ok", answer
        return ast.literal_eval(answer["data"]["text/plain"])

    @contextmanager
    def suspended(self):
        """Let it answer nobody until the block ends."""
        self._process.suspend()
        try:
            yield
        finally:
            self._process.resume()

    def memory(self):
        """Return the resident bytes, without garbage, and without what malloc keeps for later."""
        self.evaluate("__import__('gc').collect()")
        self.evaluate("getattr(__import__('ctypes').CDLL(None), 'malloc_trim', bool)(0) and None")
        return self._process.memory_info().rss


@contextmanager
def kernel_of(server):
    """Reach the kernel that the server started last, until the block ends."""
    connection = str(
        max(server.folder.rglob("kernel-*.json"), key=lambda path: path.stat().st_mtime)
    )
    family = psutil.Process(server.process.pid).children(recursive=True)
    process = next(each for each in family if connection in each.cmdline())
    client = BlockingKernelClient(connection_file=connection)
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=30)
        yield Kernel(client, process)
    finally:
        client.stop_channels()
