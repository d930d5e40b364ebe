"""What a tool tries, and what comes of it: each test is an attack from inside a running container."""

import textwrap
import time

import pytest

from tests.containers import AGENT, CADDY, KEY, SECRET, Boxes

pytestmark = pytest.mark.image
OTHERS = "for p in /proc/[0-9]*; do [ $(stat -c %u $p) != 10003 ] && echo ${p#/proc/}; done"
LEFT = 'for p in /proc/[0-9]*; do [ "$(stat -c %u $p)" = 10003 ] && cat $p/cmdline; done; true'


def python(box, program, **options):
    return box.tool("python3", "-c", program, **options)


def client(body):
    """A program of the agent's, with `run` to call a tool."""
    return f"""
import asyncio
from agent.sandbox.client import Sandbox
from agent.sandbox.wire import Request

async def run(script):
    return (await Sandbox().run(Request(["bash", "-c", script], seconds=300))).data

async def main():
{textwrap.indent(textwrap.dedent(body), "    ")}

asyncio.run(main())
"""


def test_a_tool_is_nobody(box):
    ran = box.tool("id; grep -E 'Cap(Inh|Prm|Eff|Amb)|NoNewPrivs|Seccomp:' /proc/self/status; ulimit -c; pwd; env")
    assert "uid=10003(tool) gid=10003(tool) groups=10003(tool)" in ran.output
    assert ran.output.count("0000000000000000") == 4
    assert "NoNewPrivs:\t1" in ran.output
    assert "Seccomp:\t2" in ran.output
    assert "\n0\n/workspace\n" in ran.output
    names = {line.partition("=")[0] for line in ran.output.partition("/workspace\n")[2].splitlines()}
    assert names == {"PATH", "HOME", "LANG", "TMPDIR", "PWD", "SHLVL", "_"}


@pytest.mark.parametrize("file", ["environ", "maps", "mem", "fd", "root", "cwd", "io", "stack"])
def test_the_memory_and_environment_of_the_others_are_closed(box, file):
    look = f"cat /proc/$p/{file} 2>/dev/null; ls /proc/$p/{file}/ 2>/dev/null"
    ran = box.tool(f"n=0; for p in $({OTHERS}); do n=$((n+1)); {look}; done; echo; echo others $n")
    assert ran.output.lstrip("\n").startswith("others ")
    assert int(ran.output.split()[-1]) >= 4


def test_no_secret_stands_in_an_argument(box):
    ran = box.tool("cat /proc/*/cmdline | tr '\\0' ' '")
    assert "agent" in ran.output
    assert SECRET not in ran.output
    assert KEY not in ran.output


def test_the_secrets_are_nowhere_to_be_found(box):
    # A class of one character, so that the pattern does not find itself.
    patterns = " ".join(f"-e '{secret[:-1]}[{secret[-1]}]'" for secret in (SECRET, KEY))
    processes = "/proc/[0-9]*/{environ,cmdline,comm,maps,mountinfo,status,stack,syscall,auxv}"
    places = "/workspace /tmp /dev/shm /etc /run /data /caddy /app /opt /usr/local /var"
    ran = box.tool(f"grep -als {patterns} {processes}; grep -rals {patterns} {places}; echo done", seconds=60)
    assert ran.output == "done\n"


@pytest.mark.parametrize("path", ["/data/agent.db", "/data", "/data/tmp", "/caddy", "/caddy/key.pem"])
def test_the_agents_files_cannot_be_read(box, path):
    ran = box.tool(f"cat {path} || ls {path}")
    assert ran.code != 0
    assert "denied" in ran.output


@pytest.mark.parametrize("path", ["/app/agent/app.py", "/opt/venv/pyvenv.cfg"])
def test_the_agents_program_is_hidden_where_the_kernel_can(box, path):
    if abi(box) < 1:
        pytest.skip("this kernel has no Landlock; these files hold no secret")
    assert "denied" in box.tool(f"cat {path}").output


@pytest.mark.parametrize("path", ["/app/x", "/etc/x", "/usr/bin/x", "/data/x", "/caddy/x", "/run/x", "/x"])
def test_nothing_outside_the_workspace_can_be_written(box, path):
    ran = box.tool(f"echo x > {path}")
    assert ran.code != 0


@pytest.mark.parametrize("path", ["/run/agent.sock", "/run/launcher.sock"])
def test_the_sockets_of_the_agent_and_the_launcher_stay_shut(box, path):
    for kind in ("SOCK_STREAM", "SOCK_SEQPACKET"):
        ran = python(box, f"import socket as s; s.socket(s.AF_UNIX, s.{kind}).connect({path!r})")
        assert "PermissionError" in ran.output


def test_there_is_no_docker_socket(box):
    ran = box.tool("ls /var/run/docker.sock /run/docker.sock")
    assert ran.code != 0


@pytest.mark.parametrize("user", ["0", str(AGENT), str(CADDY)])
def test_becoming_another_user_is_refused(box, user):
    ran = python(box, f"import os; os.setuid({user})")
    assert "PermissionError" in ran.output


def test_killing_the_others_is_refused(box):
    ran = box.tool(f"for p in $({OTHERS}); do kill -9 $p 2>&1; done; kill -9 -1; true")
    assert "not permitted" in ran.output
    assert box.is_running()


@pytest.mark.parametrize(
    "program",
    [
        "l.ptrace(16, {target}, 0, 0)",  # PTRACE_ATTACH
        "l.process_vm_readv({target}, 0, 0, 0, 0, 0)",
        "l.unshare(0x10000000)",  # CLONE_NEWUSER
        "l.unshare(0x00020000)",  # CLONE_NEWNS
        "l.mount(b'none', b'/tmp', b'tmpfs', 0, 0)",
        "l.chroot(b'/tmp')",
        "l.syscall(321, 0, 0, 0)",  # bpf
        "l.syscall(425, 1, 0)",  # io_uring_setup
        "l.syscall(298, 0, 0, 0, 0, 0)",  # perf_event_open
        "l.syscall(250, 0, 0, 0, 0)",  # keyctl
        "l.personality(0x0040000 | 0x8000000)",
    ],
)
def test_privileged_system_calls_are_refused(box, program):
    call = program.replace("{target}", "1")
    ran = python(box, f"import ctypes; l = ctypes.CDLL(None); print('answer', {call})")
    assert "answer -1" in ran.output


def test_no_file_gives_another_user(box):
    ran = box.run("find", "/", "-xdev", "-type", "f", "-perm", "/6000")
    assert ran.output == ""


def test_a_fork_bomb_ends_and_the_next_call_works(box):
    with box.alone():
        ran = box.tool(":(){ :|:& };:; sleep 30", seconds=4)
        assert ran.code != 0
        assert box.tool("echo fine").output == "fine\n"
        assert leftovers(box) == ""


def leftovers(box):
    """Commands of processes of the tools' user, seen from outside."""
    return box.run("sh", "-c", LEFT).output


@pytest.mark.parametrize(
    "escape",
    [
        "sleep 300 &",
        "nohup sleep 300 >/dev/null 2>&1 &",
        "setsid nohup sleep 300 >/dev/null 2>&1 </dev/null & disown",
        "(setsid bash -c 'trap \"\" TERM HUP INT; (sleep 300 &) ; sleep 300' >/dev/null 2>&1 &)",
        "python3 -c 'import os, time\nfor i in 1, 2:\n  if os.fork(): os._exit(0)\n  os.setsid()\ntime.sleep(300)' &",
    ],
)
def test_what_was_left_in_the_background_is_gone(box, escape):
    start = time.monotonic()
    ran = box.tool(f"{escape}\necho started")
    assert ran.output == "started\n"
    assert time.monotonic() - start < 120  # the sleep was not waited for
    assert leftovers(box) == ""


def test_a_call_that_does_not_end_is_ended(box):
    ran = box.tool("trap '' TERM INT HUP; while :; do sleep 1; done", seconds=1)
    assert ran.code == 137
    assert "timeout" in ran.how
    assert leftovers(box) == ""


def test_memory_runs_out_for_the_tool_alone(box):
    ran = python(box, "x = bytearray(2_000_000_000)")
    assert "MemoryError" in ran.output
    box.wait_healthy()


def test_many_processes_cannot_use_up_the_containers_memory(box):
    """Together they pass each one's limit: the kernel takes a tool, which says so first (oom_score_adj)."""
    eater = "import time; x = bytearray(b'x' * 400_000_000); time.sleep(20)"
    box.tool(f'for i in 1 2 3 4; do python3 -c "{eater}" & done; wait', seconds=15)
    box.wait_healthy()
    assert leftovers(box) == ""


def test_a_file_has_an_end(box):
    ran = box.tool("head -c 100M /dev/zero > big; ls -s --block-size=M big; rm -f big")
    assert "64M" in ran.output


def test_infinite_output_is_cut_off(box):
    ran = box.tool("yes")
    assert len(ran.output) == 65_536
    assert "truncated" in ran.how
    assert leftovers(box) == ""


def test_no_core_is_dumped(box):
    ran = box.tool("python3 -c 'import os; os.abort()'; echo $?; ls -A | grep -c core; ulimit -Hc")
    assert ran.output.split()[-3:] == ["134", "0", "0"]


@pytest.mark.parametrize("path", ["/data/agent.db", "/proc/1/environ", "/app/agent/app.py", "/run/launcher.sock"])
def test_links_lead_nowhere(box, path):
    ran = box.tool(f"ln -sf {path} soft; cat soft; echo x > soft; ln {path} hard; cat hard; rm -f soft hard")
    refused = ("denied", "not permitted", "cross-device", "Read-only", "No such", "not a regular")
    assert all(any(word in line for word in refused) for line in ran.output.splitlines()), ran.output
    assert len(ran.output.splitlines()) >= 4


def test_a_working_folder_outside_is_no_way_out(box):
    for folder in ("/data", "../data", "/proc/1/root", "../../caddy"):
        assert "denied" in box.tool("ls", folder=folder).output


def test_shared_memory_is_small_and_its_own(box):
    ran = box.tool("head -c 40M /dev/zero > /dev/shm/x; ls -s --block-size=M /dev/shm/x; rm -f /dev/shm/x")
    assert "No space left" in ran.output
    assert "16M" in ran.output


def test_the_temporary_folder_fills_up_for_tools_alone(box):
    ran = box.tool("for i in 1 2; do head -c 60M /dev/zero > /tmp/$i; done; rm -f /tmp/1 /tmp/2")
    assert "No space left" in ran.output
    box.wait_healthy()


def test_no_abstract_socket_is_there_to_connect_to(box):
    ran = box.run("grep", "-c", "@", "/proc/net/unix")
    assert ran.output.strip() == "0"


def abi(box):
    return int(box.run("python", "-c", "from agent.sandbox.landlock import abi; print(abi())").output)


def test_abstract_sockets_and_signals_end_at_the_wall(box):
    if abi(box) < 6:
        pytest.skip("this kernel's Landlock knows no scopes (Linux 6.12); no process of ours listens on such a socket")
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('\\\\0agents-own')"
    program = client(f"""
        import socket
        door = socket.socket(socket.AF_UNIX)
        door.bind("\\0agents-own")
        door.listen()
        print(await run({f'python3 -c "{connect}"'!r}))
    """)
    ran = box.run("python", "-c", program, user=AGENT)
    assert "PermissionError" in ran.output


@pytest.mark.parametrize("port", [2019, 8080, 22])
def test_no_port_of_the_container_listens_to_it(box, port):
    ran = python(box, f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
    assert "ConnectionRefusedError" in ran.output or "PermissionError" in ran.output


def test_only_web_ports_can_be_connected_to(box):
    if abi(box) < 4:
        pytest.skip("this kernel's Landlock knows no ports (Linux 6.7)")
    ran = python(box, "import socket; socket.create_connection(('127.0.0.1', 2019), 2)")
    assert "PermissionError" in ran.output
    ran = python(box, "import socket; s = socket.create_connection(('127.0.0.1', 80), 2); print('connected')")
    assert "connected" in ran.output


def test_the_agent_over_its_own_door_wants_the_secret(box):
    ran = python(
        box,
        "import urllib.request as u\ntry: u.urlopen(u.Request('http://127.0.0.1/chat', b'{}', method='POST'))\n"
        "except Exception as e: print(e.code)",
    )
    assert ran.output == "401\n"


def test_the_disk_cannot_be_filled(boxes: Boxes):
    box = boxes.start({"WORKSPACE_MB": "100"})
    box.wait_healthy()
    filling = "for i in $(seq 100); do head -c 20M /dev/zero > f$i || break; done; echo end"
    ran = box.tool(filling, seconds=60)
    assert "quota" in ran.how
    assert "may hold 100 MB" in ran.how
    again = box.tool("echo more > g; rm -f f*; ls", seconds=60)
    assert "f1" not in again.output
    assert "may hold 100 MB" in again.how  # it was full when this call began
    assert box.tool("echo more > g; cat g").output == "more\n"


def test_a_closed_or_very_deep_folder_hides_nothing_from_the_quota(boxes: Boxes):
    box = boxes.start({"WORKSPACE_MB": "100"})
    box.wait_healthy()
    ran = box.tool(
        "mkdir d; chmod 300 d; for i in $(seq 100); do head -c 20M /dev/zero > d/f$i || break; done", seconds=60
    )
    assert "may hold 100 MB" in ran.how
    box.tool("chmod 700 d; rm -rf d")
    deep = "import os\nfor i in range(50): os.mkdir('x' * 200); os.chdir('x' * 200)\nimport time; time.sleep(20)"
    ran = python(box, deep, seconds=20)
    assert "nested too deeply" in ran.how
    assert box.tool("rm -rf x*; echo gone").output == "gone\n"


def test_many_files_are_counted_and_can_be_removed(boxes: Boxes):
    box = boxes.start({"WORKSPACE_FILES": "20000"})
    box.wait_healthy()
    some = box.tool("mkdir m; cd m; touch $(seq 10000); ls | wc -l", seconds=60)
    assert some.output == "10000\n"
    more = python(box, "import os, time\nfor i in range(10**9): open(f'n{i}', 'w').close()", seconds=60)
    assert "may hold 20000" in more.how
    assert box.tool("find . -type f -delete; ls m | wc -l", seconds=60).output == "0\n"


def test_writing_over_the_quota_leaves_the_agent_able_to_write(boxes: Boxes):
    box = boxes.start({"WORKSPACE_MB": "50"})
    box.wait_healthy()
    box.tool("for i in $(seq 100); do head -c 20M /dev/zero > f$i || break; done", seconds=60)
    assert box.run("sh", "-c", "echo x > /data/probe && rm /data/probe", user=AGENT).code == 0


def test_what_docker_knows_of_the_container_does_not_reach_it(box):
    ran = box.tool("cat /proc/self/mountinfo /proc/self/cgroup /etc/hosts /etc/hostname /etc/resolv.conf /proc/cmdline")
    assert SECRET not in ran.output
    assert KEY not in ran.output


def test_calls_run_beside_each_other_and_end_alone(box):
    """One that is cleaned up after takes nothing away from the other."""
    program = client("""
        slow = asyncio.create_task(run("echo on > mark; while [ ! -e go ]; do sleep 0.05; done; rm go mark; echo slow"))
        while b"on" not in await run("cat mark 2>/dev/null; sleep 100 &"):
            pass
        await run("touch go")
        print(await slow)
    """)
    ran = box.run("python", "-c", program, user=AGENT)
    assert ran.output == "b'slow\\n'\n"


def test_hanging_up_stops_the_call(box):
    program = client("""
        call = asyncio.create_task(run("echo on > mark; sleep 300"))
        while b"on" not in await run("cat mark"):
            pass
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        while b"sleep" in await run("rm -f mark; cat /proc/*/comm"):
            pass
        print("stopped")
    """)
    ran = box.run("python", "-c", program, user=AGENT)
    assert ran.output == "stopped\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("no-such-program", "argument"), "no-such-program: not found"),
        (("/etc/passwd", "argument"), "/etc/passwd: cannot be started: [Errno 13] Permission denied"),
        (("--folder", "nowhere", "true", "argument"), "cannot work in nowhere"),
        (("--seconds", "0", "true", "argument"), "seconds: must be above 0"),
        (("true", "x" * 100_000, "y" * 100_000), "a command may have 200000 bytes"),
    ],
)
def test_bad_calls_are_answered_with_what_is_wrong(box, words, says):
    ran = box.run("python", "-m", "agent.sandbox", *words, user=AGENT)
    assert says in ran.output


def test_standard_input_reaches_the_tool_whole(box):
    ran = box.run("sh", "-c", "head -c 5000000 /dev/zero | python -m agent.sandbox --stdin 'wc -c'", user=AGENT)
    assert "5000000" in ran.output.splitlines()


def test_a_dead_keeper_leaves_nothing_behind(box):
    """Its tools are swept up by the launcher."""
    kill = (
        "import os, signal\nfor p in filter(str.isdigit, os.listdir('/proc')):\n"
        "    try: parent = open(f'/proc/{p}/stat').read().rpartition(')')[2].split()[1]\n"
        "    except OSError: continue\n"
        "    if os.stat(f'/proc/{p}').st_uid == 10003: os.kill(int(parent), signal.SIGKILL); break\n"
    )
    started = box.container.client.api.exec_create(
        box.container.id, ["python", "-m", "agent.sandbox", "touch here; setsid sleep 300; true"], user=str(AGENT)
    )
    box.container.client.api.exec_start(started["Id"], detach=True)
    wait_until(lambda: "here" in box.tool("ls").output)
    assert box.run("python", "-c", kill).code == 0
    wait_until(lambda: leftovers(box) == "")
    assert box.tool("rm -f here; echo fine").output == "fine\n"


def wait_until(fact, seconds=15):
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
