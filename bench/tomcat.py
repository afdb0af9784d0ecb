"""Gives real Tomcat members as Debian's package ``tomcat10`` brings them: a few JSP pages, clustered.

Members know each other by a static list, so that no multicast is needed. Each serves HTTP on a Unix socket, which
leaves its network to what it says to the other members.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HOME = Path("/usr/share/tomcat10")
CONFIGURATION = Path("/etc/tomcat10")
JAVA = "java"
BACKUP, DELTA = "BackupManager", "DeltaManager"
MEMBERSHIP_PORT = 7_000
HEAP = "256m"
FILLER_CHARS = 900
JSP_COMPILER = "/usr/share/java/eclipse-jdt-core.jar"

PAGES = {
    "ping": ("false", 'out.print("ready");'),
    "plain": ("false", 'out.print("anna@example.org has counted");'),
    "read": ("true", 'out.print(session.getAttribute("user") + " " + session.getAttribute("number"));'),
    "write": (
        "true",
        'int n = (Integer) session.getAttribute("number") + 1; session.setAttribute("number", n); out.print(n);',
    ),
    "begin": (
        "true",
        'session.setAttribute("user", "anna@example.org");'
        f' session.setAttribute("cart", "x".repeat({FILLER_CHARS})); session.setAttribute("number", 0);'
        ' out.print("begun");',
    ),
    "heap": (
        "false",
        "Runtime r = Runtime.getRuntime(); for (int i = 0; i < 4; i++) { System.gc(); Thread.sleep(50); }"
        " out.print(r.totalMemory() - r.freeMemory());",
    ),
}
"""Page -> whether it uses the session, and what it does."""

WEB_XML = """\
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="5.0"><distributable/></web-app>
"""
SERVER_XML = """\
<Server port="-1" shutdown="none">
  <Service name="Catalina">
    <Connector protocol="org.apache.coyote.http11.Http11NioProtocol" unixDomainSocketPath="{door}"
               maxKeepAliveRequests="-1" keepAliveTimeout="60000" maxThreads="16"/>
    <Engine name="Catalina" defaultHost="localhost" jvmRoute="{name}">
      <Cluster className="org.apache.catalina.ha.tcp.SimpleTcpCluster" channelSendOptions="{options}">
        <Manager className="org.apache.catalina.ha.session.{manager}"/>
        <Channel className="org.apache.catalina.tribes.group.GroupChannel">
          <Membership className="org.apache.catalina.tribes.membership.StaticMembershipService">
            <LocalMember className="org.apache.catalina.tribes.membership.StaticMember"
                         domain="bench" uniqueId="{own_id}"/>
{members}
          </Membership>
          <Receiver className="org.apache.catalina.tribes.transport.nio.NioReceiver" address="{host}" port="{port}"
                    autoBind="0"/>
          <Sender className="org.apache.catalina.tribes.transport.ReplicationTransmitter">
            <Transport className="org.apache.catalina.tribes.transport.nio.PooledParallelSender"/>
          </Sender>
          <Interceptor className="org.apache.catalina.tribes.group.interceptors.TcpFailureDetector"/>
          <Interceptor className="org.apache.catalina.tribes.group.interceptors.MessageDispatchInterceptor"/>
        </Channel>
        <Valve className="org.apache.catalina.ha.tcp.ReplicationValve" filter=""/>
        <ClusterListener className="org.apache.catalina.ha.session.ClusterSessionListener"/>
      </Cluster>
      <Host name="localhost" appBase="webapps" autoDeploy="false"/>
    </Engine>
  </Service>
</Server>
"""
MEMBER_XML = """\
            <Member className="org.apache.catalina.tribes.membership.StaticMember" host="{host}" port="{port}"
                    domain="bench" uniqueId="{id}"/>"""
SEND_OPTIONS = {BACKUP: 6, DELTA: 6}
"""Acknowledged by the receiver after it has applied the change, for both: what BackupManager does by default, and what
makes DeltaManager wait as Understudy's does. (DeltaManager's own default, 8, waits for nobody.)"""


def why_not() -> str | None:
    """What is missing here; None if Tomcat can be started."""
    missing = [what for what in (HOME, CONFIGURATION) if not what.exists()]
    if missing or shutil.which(JAVA) is None:
        return "tomcat10 is not installed: apt-get install tomcat10"
    return None


def version() -> str:
    """As the package says."""
    command = ["dpkg-query", "--show", "--showformat", "${Version}", "tomcat10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "of unknown version"


def prepare(base: Path, name: str, door: Path, manager: str, hosts: dict[str, str]) -> list[str]:
    """Writes one member's directory; gives the command that starts it, with ``environ(base)``."""
    for directory in ("conf", "lib", "logs", "temp", "webapps/ROOT/WEB-INF", "work"):
        (base / directory).mkdir(parents=True, exist_ok=True)
    for path in CONFIGURATION.glob("*.*"):
        if path.name != "server.xml" and path.is_file():
            shutil.copy(path, base / "conf" / path.name)
    properties = base / "conf" / "catalina.properties"
    text = properties.read_text("utf-8")
    properties.write_text(text.replace("common.loader=", f'common.loader="{JSP_COMPILER}",', 1), "utf-8")
    ids = {member: "{" + ",".join(["0"] * 15 + [str(number)]) + "}" for number, member in enumerate(hosts, 1)}
    others = "\n".join(
        MEMBER_XML.format(host=host, port=MEMBERSHIP_PORT, id=ids[other])
        for other, host in hosts.items()
        if other != name
    )
    (base / "conf" / "server.xml").write_text(
        SERVER_XML.format(
            door=door, name=name, manager=manager, members=others, host=hosts[name], port=MEMBERSHIP_PORT,
            own_id=ids[name], options=SEND_OPTIONS[manager],
        ),
        "utf-8",
    )  # fmt: skip
    root = base / "webapps" / "ROOT"
    (root / "WEB-INF" / "web.xml").write_text(WEB_XML, "utf-8")
    for page, (uses_session, body) in PAGES.items():
        (root / f"{page}.jsp").write_text(
            f'<%@ page session="{uses_session}" trimDirectiveWhitespaces="true" %><% {body} %>'
        )
    return [str(HOME / "bin" / "catalina.sh"), "run"]


def environ(base: Path) -> dict[str, str]:
    return {
        "CATALINA_HOME": str(HOME), "CATALINA_BASE": str(base), "CATALINA_TMPDIR": str(base / "temp"),
        "CATALINA_OPTS": f"-Xmx{HEAP} -Xms64m -XX:+UseSerialGC -Djava.net.preferIPv4Stack=true",
    }  # fmt: skip
