"""Gives real load balancers in front of a cluster's members, each with the configuration that ours prints for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.patience import PATIENCE_S
from tests.system.cluster import Cluster, free_ports

from understudy.demo.cluster import HOST, answers

PACKAGES = {"haproxy": "haproxy", "nginx": "nginx-light", "apache": "apache2", "caddy": "caddy"}
PROGRAMS = {"haproxy": "haproxy", "nginx": "nginx", "apache": "apache2", "caddy": "caddy"}
KINDS = tuple(PROGRAMS)

NGINX = """\
{user}
daemon off;
pid {directory}/pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    scgi_temp_path {directory}/scgi;
    uwsgi_temp_path {directory}/uwsgi;
    include {printed};
}}
"""
APACHE = """\
{modules}
ServerRoot {directory}
ServerName localhost
DefaultRuntimeDir {directory}
PidFile {directory}/pid
ErrorLog /dev/stderr
{user}
Include {printed}
"""
APACHE_MODULES = Path("/usr/lib/apache2/modules")
APACHE_BASIS = ("mpm_event", "authz_core")
"""What every Apache has beside the modules that the printed configuration says it needs."""


def program(kind: str) -> str | None:
    """Its path; None when the package is not installed."""
    return shutil.which(
        PROGRAMS[kind], path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    )


class Balancer:
    """One balancer on a port of its own; ends with its ``with`` block, and in any case with the cluster."""

    def __init__(self, kind: str, cluster: Cluster, *options: str) -> None:
        self.port = free_ports(1)[0]
        self.directory = cluster.base / f"balancer-{kind}-{self.port}"
        self.directory.mkdir(mode=0o755)
        self.printed = self.directory / "printed"
        self._kind = kind
        # The cluster's guard ends what has a directory below its own.
        self._environment = {**os.environ, "UNDERSTUDY_DIR": str(self.directory), "HOME": str(self.directory)}
        members = [f"{name}={HOST}:{member.port}" for name, member in cluster.members.items()]
        self._print([*members, "--bind", f"{HOST}:{self.port}", *options])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Balancer:
        checked = subprocess.run(self._command(only_check=True), env=self._environment, capture_output=True, text=True)
        assert checked.returncode == 0, f"{checked.stdout}{checked.stderr}\n{self.printed.read_text()}"
        self.checked = checked.stdout + checked.stderr
        with (self.directory / "out").open("wb") as output:
            self._process = subprocess.Popen(
                self._command(), env=self._environment, stdout=output, stderr=output, start_new_session=True
            )
        deadline_s = time.monotonic() + PATIENCE_S
        while not answers(self.port):
            assert self._process.poll() is None and time.monotonic() < deadline_s, (
                f"it does not answer\n{self.output()}"
            )
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        return (self.directory / "out").read_text()

    def _print(self, arguments: Sequence[str]) -> None:
        """What a person types."""
        command = [sys.executable, "-m", "understudy", "balancer", self._kind, *arguments]
        paths = [str(Path(__file__).resolve().parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
        environment = {**self._environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        with self.printed.open("wb") as output:
            subprocess.run(command, env=environment, cwd=self.directory, stdout=output, check=True)

    def _command(self, *, only_check: bool = False) -> list[str]:
        found = program(self._kind)
        assert found is not None
        match self._kind:
            case "haproxy":
                return [found, *(["-c"] if only_check else ["-db"]), "-f", str(self.printed)]
            case "nginx":
                around = self._around(NGINX, user="user root;" if os.getuid() == 0 else "")
                return [found, *(["-t"] if only_check else []), "-p", str(self.directory), "-c", around, "-e", "stderr"]
            case "apache":
                user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
                around = self._around(APACHE, user=user, modules="\n".join(self._apache_modules()))
                return [found, *(["-t"] if only_check else ["-DFOREGROUND"]), "-f", around]
        whole = self.directory / "Caddyfile"
        whole.write_text("{\n\tadmin off\n}\n" + self.printed.read_text())
        verb = "validate" if only_check else "run"
        return [found, verb, "--adapter", "caddyfile", "--config", str(whole)]

    def _around(self, frame: str, **values: str) -> str:
        """The file that a distribution would deliver, with the printed one included."""
        path = self.directory / "whole.conf"
        path.write_text(frame.format(directory=self.directory, printed=self.printed, **values))
        return str(path)

    def _apache_modules(self) -> list[str]:
        """Those that the printed configuration says it needs, and no other."""
        named = self.printed.read_text().partition("a2enmod ")[2].partition("\n")[0].split()
        files = [(name, APACHE_MODULES / f"mod_{name}.so") for name in (*APACHE_BASIS, *named)]
        return [f"LoadModule {name}_module {path}" for name, path in files]
