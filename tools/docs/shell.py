"""One bash for all commands of a page, so that variables and folders last from command to command, as for a reader."""

import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: object  # the exit status, or None if the time was over or the shell has ended
    output: str
    seconds: float


class Shell:
    """A bash that runs one command after the other."""

    def __init__(self, folder, environment):
        self.read, write = os.pipe()
        self.write = write
        self.output = tempfile.NamedTemporaryFile(prefix="latentrace-docs-", suffix=".out")
        self.bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=environment, stdin=subprocess.PIPE, bufsize=0,
            pass_fds=[write], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(write)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
        self.bash.wait()
        self.bash.stdin.close()
        os.close(self.read)
        self.output.close()

    def end(self):
        """Ends bash and all that it started."""
        try:
            os.killpg(self.bash.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def run(self, script, limit):
        """Runs a command for at most `limit` seconds. After that, or after its end, a shell runs nothing more."""
        began = time.monotonic()
        self.output.truncate(0)
        # eval, so that a syntax error is the command's failure. The command does not get the pipe of the statuses.
        to = f">{shlex.quote(self.output.name)} 2>&1 </dev/null {self.write}>&-"
        line = f"{{ eval {shlex.quote(script)}; }} {to}\nprintf '%s\\n' $? >&{self.write}\n"
        try:
            self.bash.stdin.write(line.encode())
        except BrokenPipeError:
            return Ran(None, "the shell has ended", 0.0)
        status = self.status(began + limit)
        seconds = time.monotonic() - began
        with open(self.output.name, encoding="utf-8", errors="replace") as file:
            return Ran(status, file.read(), seconds)

    def status(self, deadline):
        """Waits for the status of a command. None if there is none until the deadline, or if bash has ended."""
        said = b""
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([self.read], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self.read, 16) if ready else b""
            if not more:
                self.end()
                return None
            said += more
        return int(said)
